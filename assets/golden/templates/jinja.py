"""Renders small templates with Jinja2 in the environment of Hugging Face's `apply_chat_template`.

`python jinja.py` writes `jinja.json.gz`: rows of `{"t": template, "v": variables, "ok": text}`, or `"err": true` if Jinja2
raises. Made with Jinja2 3.1.6. `python jinja.py --fuzz N SEED` prints N random rows, one per line, for a longer comparison.
"""

import copy
import functools
import gzip
import itertools
import json
import random
import sys
from datetime import datetime

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """The `generation` tag as transformers defines it."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_support")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _support(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = lambda f: datetime(2024, 7, 26).strftime(f)

class Once:
    """A generator that is read at once, so that errors occur, and whose text is an error, since Python's text is an address."""

    def __init__(self, items):
        self._items = iter(list(items))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._items)

    def __repr__(self):
        raise TypeError("a generator has no text")


def at_once(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        result = function(*args, **kwargs)
        return result if isinstance(result, (str, list)) else Once(result)

    return wrapper


for name in ("map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items", "reverse"):
    ENV.filters[name] = at_once(ENV.filters[name])

VARS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi there, <|x|> é"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": [True, None]}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "42"}]},
    ],
    "tools": None,
    "d": {"b": 2, "a": 1, "items": [1, 2], "C": 3.5, "n": None},
    "e": {},
    "l": [3, 1, 2, 10, 2],
    "w": ["b", "A", "c", "a", "B"],
    "s": "  Hello, World! x=1 <b>&amp;</b>  ",
    "m": "one\ntwo\r\nthree\n\nfive",
    "u": "Äpfel ǆ ﬁ ß σς İ 水 ½ ² ٣",
    "i": 42,
    "f": 3.14159,
    "neg": -7,
    "t": True,
    "no": False,
    "nil": None,
    "nest": {"x": {"y": [{"z": "deep"}, 5]}},
    "p": [{"n": "x", "v": 2, "k": "A"}, {"n": "y", "v": 1, "k": "b"}, {"n": "z", "v": 2, "k": "a"}, {"n": "q"}],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}

VALUES = ["s", "l", "w", "d", "e", "i", "f", "neg", "t", "nil", "nothing", "m", "u", "''", "()", "(1,)", "[[1],[2]]", "range(5)",
          "d.items()", "l|map('string')", "1e20", "0", "'12'", "'3.7'", "' 0x1F '", "messages[1].content", "p", "namespace(a=1)", "dict(a=1)"]

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7.5 // 2, -7.5 % 2, 2 ** 10, 2 ** -1, -2 ** 2, 2 ** 3 ** 2
1 / 3, 4 / 2, 10 / 4, 1e16 * 10, 0.1 + 0.2, 1e-7, 123456789.123
1 // 0
1.5 % 0
'a' + 'b', 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1]
'a' + 1
nothing + 'a'
[1] + [2], (1,) + (2,), 'ab' * 3, [0] * 3, 2 * 'x', 'x' * -1
'n=%d' % 3, '%s-%s' % (1, 'a'), '%5.2f|%-5d|%05d|%+d|% d|%x|%X|%o|%#x' % (3.14159, 3, 7, 5, 6, 255, 255, 8, 255)
'%r %s %c %c %%' % ('a', none, 'x', 65)
'%e %g %G %.3g %g %g' % (12345.678, 12345.678, 0.00001234, 1234567, 100000, 1e20)
'%(a)s-%(b)05.1f' % {'a': 'x', 'b': 2.25}
'%s' % [1, 2]
'%s %s' % 'a'
'%d' % 'a'
'%s' % (1, 2)
'%*d|%-*d|%.*f' % (5, 42, 5, 42, 2, 3.14159)
'%s' % d
'%i %u' % (3.9, -3.9)
'%.2s|%5s|%-5s|' % ('abc', 'ab', 'ab')
'%s' % nothing
1 < 2 < 3, 1 < 2 > 1, 1 == 1.0, true == 1, 'a' < 'b', [1, 2] < [1, 3], (1,) == (1,), [1] == (1,), none == false
1 < 'a'
none < 1
not 1 == 2, not true and false, 1 or 0, 0 or 'x', '' and 1, 1 and 2
1 in [1, 2], 'a' in 'abc', 'a' in {'a': 1}, 1 not in [2], none in [none], 3 in range(5), 'x' in nothing
1 in 'abc'
1 in none
'a' in d, 'zz' in d, 'a' in d.keys(), ('a', 1) in d.items()
i if t else f, (1 if no), 'x' if nil is none else 'y'
(1 if no) is defined
-i|abs, -i.real, +i, - 3|abs, (-3)|abs, -3 is odd, not nil is none
i is divisibleby 7, i is divisibleby(4), l is sequence, d is mapping, s is string, nil is none, nothing is defined, nothing is undefined
nil is iterable, nothing is iterable, i is iterable, d is iterable, d.items() is sequence, range(3) is sequence, (l|map('string')) is sequence, (l|map('string')) is iterable
t is boolean, t is integer, t is number, i is integer, f is float, f is number, i is float, t is true, no is false, 1 is true
raise_exception is callable, range is callable, s is callable, nothing is callable, s.upper is callable, strftime_now is callable
'abc' is lower, 'ABC' is upper, 'aB1' is lower, '1' is upper, 12 is lower
'upper' is filter, 'nofilter' is filter, 'odd' is test, 'nope' is test
1 is eq 1, 1 is ne(2), 3 is gt 2, 3 is ge 3, 1 is lt 2, 1 is le 1, 2 is equalto 2, 2 is greaterthan 1, 1 is lessthan 2, 1 is in [1]
none is sameas none, t is sameas true, l is sameas l, 1 is sameas true
'<'|e is escaped, '<' is escaped, ('a'|safe) is escaped
3 is odd, 4 is even, -3 is odd, 4.0 is even
l[0], l[-1], l[99], l['x'], l[1:3], l[::-1], l[::2], l[-2:], l[:-1], l[3:1], l[10:], l[::-2]
s[2], s[-3], s[2:7], s[::-1], s[:0], u[0], u[-1], u[1:3], u[::-1]
(1, 2, 3)[1:], range(10)[2:8:2], range(10)[-1], l[true]
l[1.0] is defined, nothing.x is defined
nothing.x
nothing['x']
d.a, d['a'], d.zz, d['zz'], d.items is callable, d['items'], d.get('a'), d.get('zz'), d.get('zz', 5), d.n
d.items()|list, d.keys()|list, d.values()|list, d|items|list, d|list, d|length, d.copy()
d.items()
d.keys(), d.values()
d.pop('a')
l.append(4)
l.append is defined, d.update is defined, s.__class__ is defined, s.nope is defined, l.sort is defined
l.count(2), l.index(2), l.index(2, 3), (1, 2).count(1), l.copy()
l.index(99)
messages[0].role, messages[0]['role'], messages[-1].content[0].text, messages|length, messages[0].nope is defined
nest.x.y[0].z, nest['x']['y'][1], nest.x.y.0.z, nest.x.nope, nest.x.y[7]
s.strip(), s.lstrip(), s.rstrip(), 'xxaxx'.strip('x'), 'abc'.strip('ac'), 'xyx'.lstrip('x'), ''.strip()
s.upper(), s.lower(), 'hello world'.title(), 'hELLO'.capitalize(), 'aBc'.swapcase(), "they're bill's".title(), 'ß'.upper()
u.upper(), u.lower(), u.title(), u.capitalize(), u.swapcase(), u.casefold(), u|title, u|upper, u|capitalize
'a,b,c'.split(','), 'a b  c'.split(), ' a  b '.split(' '), 'a,b,c'.split(',', 1), 'a b c'.split(none, 1), ' a  b  c '.split(maxsplit=1), ''.split(), ''.split(','), 'abc'.split('abc')
'a,b,c'.rsplit(',', 1), 'a b  c '.rsplit(), ' a  b  c '.rsplit(none, 1), 'a::b'.rsplit('::', 1), 'abc'.rsplit('x', 1), 'a b c'.rsplit(maxsplit=1), ',a,'.rsplit(',')
'a'.split('')
m.splitlines(), m.splitlines(true), 'a\x0bb\x1cc\u2028d'.splitlines(), ''.splitlines()
'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'abc'.partition('-'), 'abc'.rpartition('-')
'abcabc'.find('c'), 'abcabc'.rfind('c'), 'abc'.find('z'), 'abcabc'.find('b', 2), 'abcabc'.find('b', 2, 4), 'abc'.index('c'), 'éaé'.find('é', 1), 'abc'.find(''), 'abc'.find('', 5)
'abc'.index('z')
'abcabc'.count('bc'), 'aaa'.count('aa'), 'abc'.count(''), 'abcabc'.count('a', 1)
'abc'.startswith('ab'), 'abc'.startswith(('x', 'a')), 'abc'.endswith(('c',)), 'abc'.startswith('b', 1), 'abc'.endswith('b', 0, 2), 'abc'.startswith(''), 'abc'.startswith('', 9)
'abc'.startswith(1)
'aXbX'.replace('X', '-'), 'aXbX'.replace('X', '-', 1), 'ab'.replace('', '.'), 'ab'.replace('', '.', 2), 'aa'.replace('a', 'b', -1)
'abc'.removeprefix('a'), 'abc'.removesuffix('c'), 'abc'.removeprefix('x')
'-'.join(['a', 'b']), ', '.join('abc'), ''.join([]), '-'.join(d)
'-'.join([1])
'5'.zfill(3), '-5'.zfill(4), '+12'.zfill(2), 'ab'.center(5), 'ab'.center(5, '*'), 'abc'.center(6, '*'), 'a'.ljust(3, '.') ~ '|', 'a'.rjust(3), 'é'.rjust(3, 'ü')
'a\tb'.expandtabs(), 'a\tb\n\tc'.expandtabs(4)
'abc'.isalpha(), 'ab1'.isalnum(), '12'.isdigit(), '²'.isdigit(), '½'.isnumeric(), '٣'.isdecimal(), ' '.isspace(), 'A1'.isupper(), 'a1'.islower(), 'Ab Cd'.istitle(), 'AbC'.istitle(), 'a_1'.isidentifier(), '1a'.isidentifier(), 'é'.isascii(), 'a'.isprintable(), '\n'.isprintable(), ''.isalpha(), '水'.isalpha(), '水'.isalnum()
'{} {}'.format(1, 'a'), '{0} {1} {0}'.format('a', 'b'), '{x}-{y[0]}-{z.a}'.format(x=1, y=[2], z={'a': 3}), '{{}}'.format(), '{!r} {!s}'.format('a', 'b')
'{:>4}|{:<4}|{:^5}|{:*^5}|'.format('é', 'a', 'b', 'c')
'{:d} {:05d} {:+d} {:,} {:_} {:x} {:#x} {:b} {:o} {:c} {:X}'.format(5, 42, 7, 1234567, 1234567, 255, 255, 5, 8, 65, 255)
'{:.2f} {:8.3f}| {:e} {:g} {:.3} {:%} {:.1%} {:,.2f} {:+.1f} {:08.2f}'.format(3.14159, 3.14159, 12345.678, 0.0001, 3.14159, 0.5, 0.123, 12345.678, 2.0, -3.14159)
'{:{w}.{p}f}'.format(3.14159, w=8, p=2), '{:.2}'.format('abc'), '{:5}|{:5}|'.format(1, 'a'), '{:>{n}}'.format('x', n=4), '{}'.format(none), '{}'.format([1, 'a']), '{}'.format(true), '{:d}'.format(true)
'{} {0}'.format(1)
'{}'.format()
'{x}'.format()
'{:d}'.format('a')
'{:=5}'.format('a')
'{a[b]}'.format(a={'b': 1}), '{0.real}'.format(5), '{0[0]}'.format('xyz')
'{a}'.format_map({'a': 1})
'a'.encode
'%s, %s!'|format('a', 'b'), '%(x)s'|format(x=1), '%d%%'|format(50)
s|trim, 'xxaxx'|trim('x'), 42|trim, nil|trim, nothing|trim
s|upper, 'x'|lower, 42|upper, 'hello-world (foo) bar'|title, 'heLLo'|capitalize, nil|upper, l|upper
s|length, l|length, d|length, nothing|length, ''|count, (1, 2)|length, range(7)|length
nil|length
5|length
(l|map('string'))|length
nothing|default('x'), nil|default('x'), ''|default('x', true), ''|default('x', boolean=true), 0|d('y', true), nothing|default, nil|default('x', boolean=true), nothing|default(default_value='q')
l|sort, l|sort(reverse=true), w|sort, w|sort(case_sensitive=true), w|sort(true), p[:3]|sort(attribute='v')|map(attribute='n')|list, p[:3]|sort(attribute='v,k')|map(attribute='n')|list, p[:3]|sort(reverse=true, attribute='v')|map(attribute='n')|list, d|sort, 'hello'|sort
[1, 'a']|sort
[3, none]|sort
l|unique|list, w|unique|list, w|unique(case_sensitive=true)|list, p|unique(attribute='v')|map(attribute='n')|list
l|min, l|max, w|min, w|max, w|max(case_sensitive=true), p[:3]|max(attribute='v'), []|min, 'hello'|max
[]|max|default('none')
l|sum, p[:3]|sum(attribute='v'), l|sum(start=10), [1.5, 2]|sum, [[1], [2]]|sum(start=[]), []|sum
['a']|sum
l|first, l|last, s|first, []|first, []|last, d|first, 'é'|last, (1, 2)|last, d.items()|first, (l|map('string'))|first
(l|map('string'))|last
l|reverse|list, 'abc'|reverse, (1, 2)|reverse|list, d|reverse|list, range(3)|reverse|list
l|join, l|join(', '), w|join('-'), p|join(',', attribute='n'), 'abc'|join('.'), [1, none, true]|join(' '), d|join, []|join('x'), nothing|join
l|list, 'abc'|list, d|list, nothing|list, range(3)|list
nil|list
5|list
l|map('string')|list, w|map('upper')|join, p|map(attribute='v')|list, p|map(attribute='v', default=0)|list, [[1, 2], [3]]|map('length')|list, [[1, 2], [3]]|map(attribute=0)|list, ['1', 'x']|map('int', 5)|list, w|map('replace', 'b', 'z')|list, nest|map('upper')|list
l|map
l|map('nofilter')|list
l|select('odd')|list, l|select|list, l|reject('odd')|list, l|select('>', 2)|list, l|select('in', [1, 2])|list, [0, 1, '', 'a', none]|select|list, [0, 1]|reject|list, l|select('divisibleby', 3)|list, l|select('equalto', 2)|list|length
p|selectattr('v')|map(attribute='n')|list, p|selectattr('v', 'equalto', 2)|map(attribute='n')|list, p|rejectattr('v', 'defined')|map(attribute='n')|list, p|selectattr('k', 'defined')|selectattr('k', 'lower')|map(attribute='n')|list, p|rejectattr('v')|map(attribute='n')|list, messages|selectattr('role', '==', 'user')|list|length, messages|selectattr('content', 'string')|list|length, messages|rejectattr('role', 'in', ['system', 'tool'])|map(attribute='role')|join(',')
l|select('nope')|list
nothing|select('odd')|list, none|select('odd')|list
p[:3]|groupby('v')|list, p[:3]|groupby('v')|map(attribute='grouper')|list, p|groupby('v', default=0)|map('first')|list, p[:3]|groupby('k')|map(attribute='list')|map('length')|list, p[:3]|groupby('k', case_sensitive=true)|map('first')|list
l|batch(2)|list, l|batch(2, 0)|list, l|slice(2)|list, l|slice(3, 'x')|list, l|batch(10)|list
d|dictsort
{'b': 1, 'A': 2, 'c': 0}|dictsort, {'b': 1, 'A': 2}|dictsort(true), {'b': 1, 'A': 2}|dictsort(by='value'), {'b': 1, 'A': 2}|dictsort(reverse=true), {'b': 1, 'A': 2}|dictsort(false, 'value', true)
5|int, '12'|int, ' 12 '|int, '1_000'|int, 'x'|int, 'x'|int(7), '3.7'|int, 3.9|int, -3.9|int, nil|int, '0x1F'|int(0, 16), 'ff'|int(base=16), '0b11'|int(0, 2), '077'|int(0, 8), t|int, '-5'|int, '+5'|int, ''|int, '1e3'|int, '٣'|int, l|int, 'inf'|int, 'nan'|int
5|float, '1.5'|float, 'x'|float, 'x'|float(2.5), nil|float, '1e3'|float, ' 2 '|float, t|float, '1_0.5'|float
3.14159|round, 3.14159|round(2), 2.5|round, 3.5|round, -2.5|round, 2.675|round(2), 42|round, 42|round(1), 1234.5|round(-2), 3.2|round(method='ceil'), 3.7|round(0, 'floor'), 42.55|round(1, 'floor'), 42|round(method='ceil'), 1e20|round, 15|round(-1), 25|round(-1)
3|abs, -3.5|abs, t|abs
'x'|abs
m|indent, m|indent(2), m|indent(2, true), m|indent(2, blank=true), m|indent('> ', true, true), 'x'|indent, ''|indent(first=true), m|indent(width=3, first=true)
5|indent
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '...', 0), 'foo bar baz qux'|truncate(9, end='!', leeway=0), 'short'|truncate, 'éééééééééé'|truncate(5, true, '', 0)
'abc'|truncate(1)
'the quick brown fox jumps over'|wordwrap(10), 'the quickbrownfoxjumps over'|wordwrap(8), 'the quickbrownfoxjumps over'|wordwrap(8, false), 'a b\n\nc d'|wordwrap(3), 'aa bb cc'|wordwrap(5, wrapstring='|')
s|wordcount, 'a-b c_d 1'|wordcount, ''|wordcount, u|wordcount
s|replace('l', 'L'), s|replace('l', 'L', 1), 5|replace('5', 'x'), 'aaa'|replace('a', 'b', count=2), nil|replace('N', 'n'), 'a1'|replace(1, 2)
s|e, s|escape, s|forceescape, s|safe, '<a>'|e|e, '<a>'|e|forceescape, ('<'|safe) + '>', ('<'|e) + '>', '>' + ('<'|e), ('<'|safe) ~ '>', s|string, 5|string, nil|string, "it's \"q\""|e
s|striptags, 'a<br>b'|striptags, '<!-- c -->x  y'|striptags
s|urlencode, 'a b/c&d=é'|urlencode, {'a b': 'c/d', 'e': 1}|urlencode, [('x', 'y z')]|urlencode, 5|urlencode
{'class': 'a b', 'n': none, 'x': 1, 'q': '"<'}|xmlattr, {'a': 1}|xmlattr(false), {}|xmlattr
0|filesizeformat, 1|filesizeformat, 999|filesizeformat, 1000|filesizeformat, 1234567|filesizeformat, 1024|filesizeformat(true), 1048576|filesizeformat(binary=true), '5000'|filesizeformat, 1e25|filesizeformat
d|attr('items') is callable, d|attr('a') is defined, s|attr('upper') is callable, nil|attr('x') is defined
{'b': [1, 2], 'a': 'x'}|pprint, [1, 'a']|pprint, 'a'|pprint
'abc'|center(7) ~ '|', 'abc'|center(6) ~ '|', 5|center(4) ~ '|'
d|tojson, l|tojson, s|tojson, nil|tojson, t|tojson, f|tojson, 1e20|tojson, 1e-7|tojson, (1, 2)|tojson, {1: 2, true: 3, none: 4, 1.5: 5}|tojson, 'é\u2028<>&\x7f\x00'|tojson
d|tojson(indent=2), d|tojson(false, 2), {}|tojson(indent=2), []|tojson(indent=2), nest|tojson(indent=4), nest|tojson(indent=0), [[], {}]|tojson(indent=1), nest|tojson(indent='--')
d|tojson(true), 'é😀'|tojson(true), 'é'|tojson(ensure_ascii=true), {'b': 1, 'a': [1, {'z': 1, 'y': 2}]}|tojson(sort_keys=true), d|tojson(separators=(',', ':')), d|tojson(false, none, (', ', ' = '), false), d|tojson(indent=2, separators=(',', ':'))
nothing|tojson
range(3)|tojson
namespace|tojson
messages|tojson, messages[2].tool_calls[0].function.arguments|tojson
range(3)|list, range(2, 5)|list, range(5, 0, -2)|list, range(0), range(1, 3), range(0, 10, 3)|list|last
range(100001)
range(1, 5, 0)
range(2.5)
dict(a=1, b=2), dict({'x': 1}, y=2), dict([('a', 1)])
namespace(a=1).a, namespace({'x': 2}).x, namespace(a=1).b is defined, namespace(a=1)
strftime_now('%d %b %Y'), strftime_now('%Y-%m-%d')
raise_exception('boom')
nofunc('x')
'a' 'b' "c", 'it''s', "\x41\u00e9\t\\\"", 'a\nb', '\101', '\q', 1_000, 0xff, 0b101, 0o17, 1.5e3, 1e2, 1_0.5
[1, 'a', none, true, 1.0, (1,), {'k': 'v'}, [], (), {}], {'a': {'b': [1]}}, 'it\'s', "\"q\" 'x'", ['\n\\\x00é\u200b😀']
none, true, false, None, True, False, 1.0, 1e100, 100000000000000000000, 1e15, 1e16, -0.0, 1.0e-5
(1), (1,), (), (1, 2), [1, 2,], {'a': 1,}
1, 2
[1, 2] == [1, 2], {'a': 1} == {'a': 1.0}, [1] != [2], 'a' == 'a', nothing == nothing2, nothing == none, () == []
l|first + 1, l[0] + l[1] * 2, (l|length) - 1, 'x' ~ l|length, -l[0], not l
w|map('lower')|unique|sort|join(','), (l + [5])|sort|last, messages|map(attribute='role')|map('upper')|list
d.items()|sort, d.items()|map('first')|list, d.items()|list|length, d.values()|select('number')|list|length
i.real, i.bit_length(), f.is_integer(), 2.0.is_integer()
caller is defined, loop is defined, varargs is defined
lipsum is callable, cycler is callable, joiner is callable
x.y if x is defined else 'nope', (nothing or {}).get('a', 'z'), (tools or [])|length, tools is none, tools is not none
messages[0].content is string and messages[0].content is not mapping, messages[2].content is none, messages[3].content is iterable and messages[3].content is not string
'a' if 'b' in 'abc' and not 'z' in 'abc' else 'c', 1 if 0 else 2 if 0 else 3
{'a': 1}.a, {'a': 1}['a'], [1, 2][0], 'abc'[1], (1, 2)[-1], {'items': 5}.items is callable, {1: 'x'}[1], {true: 'x'}[1], {(1, 2): 'x'}[(1, 2)]
{[1]: 2}
{'a': 1, 'a': 2}, {'x': 1}.get('y') is none, {}.get('x', {}).get('y', 'z')
u|list|length, u|reverse, u.encode is callable, 'e\u0301'|length, '😀'|length, '😀'[0], 'a😀b'[::-1]
"a" > "B", "a" < "b" < "c", 2 < 10, "2" < "10", true < 2, 1.5 >= 1
"%s" % true, "%d" % true, "%s" % none, "%5s|%-5s|" % ("é", "é"), "%.3f" % 2, "%s" % 1.0, "%s" % 1e20, "%a" % "é"
""".strip("\n").split("\n")

TEMPLATES = [
    "{{ 'a\\\nb' }}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}|{% endfor %}",
    "{% for x in l %}{{ loop.previtem }},{{ x }},{{ loop.nextitem }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.changed(x % 2) }}{{ loop.cycle('a', 'b') }} {% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}{{ loop.nextitem }}{{ loop.length }}:{{ x }} {% else %}none{% endfor %}",
    "{% for x in l if x > 99 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}empty {{ loop is defined }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ loop.length }}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}{% for c in 'abc' %}{{ c }}.{% endfor %}{% for x in nothing %}x{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for a, b in [(1,)] %}{% endfor %}",
    "{% for x in nil %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in l %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ loop.index }}{{ x }} {% endfor %}",
    "{% for x in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}:{{ x.v }}[{{ loop(x.c) }}]{% endfor %}",
    "{% for x in l %}{{ loop(x) }}{% endfor %}",
    "{% for x in l %}{% for y in w %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ y }}{% endfor %}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set ns = namespace(n=0, found=false) %}{% for i in l %}{% set ns.n = ns.n + i %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns }}",
    "{% set ns = namespace(done=false) %}{% for i in l if not ns.done %}{{ i }}{% set ns.done = true %}{% endfor %}",
    "{% if t %}{% set x = 1 %}{% endif %}{{ x }}{% if no %}{% set z = 1 %}{% else %}{% set y = 2 %}{% endif %}{{ y }}{{ z is defined }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = (3, 4) %}{{ c }}{{ d2 }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}a{{ 1 }}b{% endset %}[{{ x }}]{% set y | upper | replace('A', 'z') %}abc{% endset %}{{ y }}",
    "{% set x %}  a\n{% endset %}[{{ x }}]{{ x is string }}",
    "{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, 5) }}{{ f(1, c='z') }}{{ f(a=3, b=4) }}",
    "{% macro f(a) %}[{{ a }}{{ a is defined }}]{% endmacro %}{{ f() }}{{ f(1) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=1) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}{{ f() }}",
    "{% macro f(a) %}{{ a }}{{ varargs|join('-') }}{{ kwargs|length }}{% endmacro %}{{ f(1, 2, 3, k=4) }}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in {{ i }}{% endcall %}",
    "{% macro f(x) %}{% for y in x %}<{{ caller(y, y + 1) }}>{% endfor %}{% endmacro %}{% call(a, b) f(l) %}{{ a }}:{{ b }}{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}G{{ q }}{% endmacro %}{% set q = 7 %}{{ f() }}{% set q = 8 %}{{ f() }}",
    "{% set q = 1 %}{% macro f() %}{% set q = 2 %}{{ q }}{% endmacro %}{{ f() }}{{ q }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f }}{{ f.name }}{{ f is callable }}{{ l|map('string')|map('length')|list }}",
    "{% for x in l %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f(a=[]) %}{{ a }}{% endmacro %}{{ f() }}{{ f([1]) }}{{ f(*[[2]]) }}{{ f(**{'a': 3}) }}",
    "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(1, **{'b': 2}) }}{{ 'x{}{}'.format(*[1, 2]) }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}{% filter replace('a', 'b')|upper %}aa{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}{% with %}{% set z = 1 %}{% endwith %}{{ z is defined }}",
    "{% with a = 1 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% endwith %}",
    "{% generation %}abc{% set g = 1 %}{{ g }}{% endgeneration %}{{ g is defined }}",
    "{% for m in messages %}{%- generation -%}\n {{ m.role }} {{ loop.index }}\n{%- endgeneration -%}\n{% endfor %}",
    "{% block x %}b{{ i }}{% endblock %}{% block y %}{% endblock y %}",
    "{% print 1 + 1, 'x' %}{% autoescape false %}<{{ '<' }}{% endautoescape %}",
    "{% raw %}{{ x }}{% if %}{% endraw %}{% raw -%}  a  {%- endraw %}{%- raw %} b {% endraw -%} c",
    "{# c #}a{#- c -#} b {# x\ny #}\nc{#+ d +#}\n{#--#} e",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}",
    "{% set j = joiner() %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}{% set k = joiner('|') %}{{ k() }}a{{ k() }}b",
    "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}{{ g|list }}",
    "{% set x = l|select('odd') %}{{ x|list }}{% for i in x %}{{ i }}{% endfor %}|{{ x is iterable }}",
    "{% set x.y = 1 %}",
    "{% set ns = namespace() %}{% set ns.a = [1] %}{% set ns.a = ns.a + [2] %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{% if nothing %}a{% elif not nothing and i == 42 %}b{% else %}c{% endif %}{% if 0 %}x{% elif 0 %}y{% else %}z{% endif %}",
    "{% if i is nosuchtest %}a{% endif %}",
    "{% if no %}{{ i|nosuchfilter }}{% endif %}ok",
    "{{ i|nosuchfilter }}",
    "{% include 'x' %}",
    "{% if t: %}a{% endif %}{%if t%}b{%endif%}{{i}}{{- i -}} x",
    "{{ '}}' }}{{ '%}' }}{{ {'a': {'b': 1}} }}{% set x = {'a': '%}'} %}{{ x['a'] }}",
    "{{ messages[0]['content'].split('\n')[0] ~ '<|end|>' }}{{ '\n' }}{{ '\\n' }}",
    "{{ 'a' -}}  b  {{- 'c' }}\n{{ 'd' }}\n",
    "a\r\nb{% if t %}\r\nc\r{% endif %}\r\nd\r\n", "a\n\n", "\n", "", "a\n", "{{ i }}\n\n", "{% if t %}\n{% endif %}\n",
    "{%- set x = 1 -%}\n  {%- if x %} y {%- endif %}\n z", "{%- if t %} {% if t %} a{% endif %}{% endif %}",
    "{%- if t %}\n    {%- if t %}\n    a\n    {%- endif %}\n{%- endif %}\n", "  {%- if t %}  {% set a = 1 %}  {{ a }}{% endif %}",
    "{%- for m in messages %}{% set a = 1 %}   {% if a %}x{% endif %}\n  {% endfor %}", "   {%+ if t %}  a  {%+ endif +%}\n b",
    "{%- if t -%}  {% set x = 1 %}{{ x }}{%- endif -%}  ", "x {% if t -%}\n {% if t %} y {% endif %}\n{% endif %}",
    "{% for i in l -%}\n  {{ i }}\n  {%- if not loop.last %}, {% endif %}\n{%- endfor %}",
    "{{ 1 }}{%- if t %} {%- endif %} {{ 2 }}", "\t{% if t %}\t{% endif %}\tx", "\u00a0{% if t %}\u00a0{% endif %}x", "a {#- b -#}  {% if t %}  c{% endif %}",
    "{% if t %}{# c #}\n  {# d #}  {% endif %}\n  {# e #}\nf", "{% set x = 5 %}\n\n{{ x }}\n\n{% set y = 6 %}\n{{ y }}",
    "{%- macro f(x) -%}\n  [{{ x }}]\n{%- endmacro -%}\n{{ f(1) }}\n{{- f(2) }}", "{% set x = 'a' if t else 'b' %}{{ x }}{% set y = 1 if no %}{{ y is defined }}",
    "{% for x in l %}{{ x }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}{{ x is defined }}{{ loop is defined }}",
    "{% set l = [1] %}{% for x in l %}{% set l = l + [x] %}{{ l }}{% endfor %}{{ l }}", "{% for x in l %}{% if loop.first %}{% set q = 5 %}{% endif %}{{ q }}{% endfor %}",
    "{{ x }}{% set x = 1 %}{{ x }}", "{% for x in 'ab' %}{% for x in 'cd' %}{{ x }}{% endfor %}{{ x }}{% endfor %}",
    "{% set d2 = dict(d, **{'z': 9}) %}{{ d2.z }}{{ d2|length }}", "{{ d.items()|list|first|last }}{{ (d|dictsort)[0][1] }}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set sm = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ 'bad' }}{% endif %}{{ message.role }}{% endfor %}{{ sm }}",
    "{% call nothing() %}{% endcall %}", "{% set ns = namespace(l=[]) %}{% for x in l %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.l|join(' ') }}",
    "{% for x in p|sort(attribute='n') %}{{ x.n }}{{ x.v|default('-') }}{% endfor %}", "{% for g, items in p[:3]|groupby('v') %}{{ g }}:{{ items|map(attribute='n')|join }};{% endfor %}",
    "{{ loop }}", "{% for x in l %}{{ loop.foo is defined }}{% break %}{% endfor %}", "{% break %}", "{% macro f() %}{% break %}{% endmacro %}",
    "{% for row in l|batch(2) %}{{ row|join(',') }};{% endfor %}", "{% do l.append(1) %}", "{% foo %}", "{% if t %}", "{% endif %}", "{{ 1", "{{ (1 }}", "{{ 'a }}", "{# a", "{% raw %}a",
    "{{ 1 +}}", "{{ }}", "{% set %}", "{% for %}{% endfor %}", "{% for x l %}{% endfor %}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{{ a is b is c }}", "{{ ] }}", "{{ a.1.b is defined }}", "{{ a[ }}", "{{ f(a=1, 2) }}",
]


def whitespace(rng):
    """Makes a template of tags and white space only."""
    parts = []
    depth = []
    for _ in range(rng.randint(2, 9)):
        parts.append("".join(rng.choice([" ", "\n", "a", "", "  ", "\t", "\r\n", "\n\n", "b ", "{", "}", "#"]) for _ in range(rng.randint(0, 4))))
        open_, close = rng.choice(["", "", "-", "+"]), rng.choice(["", "", "-", "+"])
        kind = rng.randint(0, 7)
        if kind == 0:
            parts.append("{{%s 'v' %s}}" % (open_.replace("+", ""), close.replace("+", "")))
        elif kind == 1:
            parts.append("{#%s c %s#}" % (open_, close))
        elif kind == 2:
            parts.append("{%%%s set x = 1 %s%%}" % (open_, close))
        elif kind == 3:
            parts.append("{%%%s raw %s%%} r%s{%%%s endraw %s%%}" % (open_, close.replace("+", ""), rng.choice(["", "\n", " \n  "]), rng.choice(["", "-", "+"]), rng.choice(["", "-", "+"])))
        elif kind in (4, 5):
            depth.append("endif" if kind == 4 else "endfor")
            parts.append("{%%%s %s %s%%}" % (open_, "if true" if kind == 4 else "for i in [1, 2]", close))
        elif depth:
            parts.append("{%%%s %s %s%%}" % (open_, depth.pop(), close))
    while depth:
        parts.append(rng.choice(["", " ", "\n", "\n  ", "x"]) + "{%%%s %s %s%%}" % (rng.choice(["", "-", "+"]), depth.pop(), rng.choice(["", "-", "+"])))
    return "".join(parts) + rng.choice(["", "\n", " \n", "\n\n", "x\n"])


ATOMS = ["s", "l", "w", "d", "i", "f", "neg", "t", "no", "nil", "nothing", "1", "0", "2.5", "'a'", "'Hello'", "''", "[]", "[1, 'a']", "{}", "{'a': 1}", "(1, 2)", "messages", "p", "nest", "'%s'", "'12'", "range(3)"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
FILTERS = ["upper", "lower", "length", "list", "first", "last", "join(',')", "sort", "reverse", "tojson", "default('x')", "default('x', true)", "int", "float", "round", "abs", "string", "trim", "title", "capitalize", "unique", "sum", "min", "max", "map('string')", "select", "replace('a', 'b')", "map(attribute='role')", "batch(2)", "indent", "items", "dictsort", "e", "count", "wordcount", "reject('none')"]
CHECKS = ["defined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean", "odd", "even", "lower", "upper", "true", "false", "callable", "undefined", "in [1, 'a']", "eq 1", "gt 0"]
METHODS = [".upper()", ".split()", ".strip()", ".items()", ".get('a')", ".keys()", "[0]", "[-1]", "[1:]", "[::-1]", ".a", "['a']", ".count(1)", ".find('l')", ".title()", ".startswith('H')", ".values()", ".format(1, 2)", ".replace('l', 'L')", ".x.y", ".splitlines()", ".isdigit()"]


def expression(rng, depth=0):
    kind = rng.randint(0, 9) if depth < 4 else 0
    inner = lambda: expression(rng, depth + 1)
    if kind <= 1:
        return rng.choice(ATOMS)
    if kind == 2:
        return f"{inner()} {rng.choice(BINARY)} {inner()}"
    if kind == 3:
        return f"({inner()} {rng.choice(BINARY)} {inner()})"
    if kind in (4, 5):
        return f"{inner()}|{rng.choice(FILTERS)}"
    if kind == 6:
        return f"{inner()} is {rng.choice(['', 'not '])}{rng.choice(CHECKS)}"
    if kind == 7:
        return f"({inner()}){rng.choice(METHODS)}"
    if kind == 8:
        return f"({inner()} if {inner()} else {inner()})"
    return f"{rng.choice(['not ', '-', ''])}{inner()}"


def row(template, variables):
    try:
        # Copied, because the filter `indent` appends to a list in place.
        text = ENV.from_string(template).render(**copy.deepcopy(variables))
        return {"t": template, "v": variables, "ok": text}
    except Exception as error:
        return {"t": template, "v": variables, "err": f"{type(error).__name__}: {error}"[:200]}


def table():
    rng = random.Random(12)
    for line in EXPRESSIONS:
        yield "{{ " + line + " }}"
    yield from TEMPLATES
    for value, name in itertools.product(VALUES, FILTERS):
        yield "{{ (" + value + ")|" + name + " }}"
    for value in VALUES:
        yield "".join("{{ (" + value + ") is " + check + " }}" for check in CHECKS if check not in ("odd", "even", "gt 0"))
    for _ in range(400):
        yield whitespace(rng)
    for _ in range(600):
        yield "{{ " + expression(rng) + " }}"


ADDRESS = " at 0x"


def main():
    if sys.argv[1:2] == ["--fuzz"]:
        rng = random.Random(int(sys.argv[3]))
        for n in range(int(sys.argv[2])):
            template = whitespace(rng) if n % 2 else "{{ " + expression(rng) + " }}"
            made = row(template, VARS)
            if ADDRESS not in made.get("ok", "").lower():
                print(json.dumps(made))
        return
    rows = [made for made in (row(template, VARS) for template in table()) if ADDRESS not in made.get("ok", "").lower()]
    for made in rows:
        del made["v"]
        if "err" in made:
            made["err"] = True
    with open("jinja.json.gz", "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write(json.dumps({"variables": VARS, "rows": rows}, ensure_ascii=False).encode())
    print(len(rows), "rows", sum("err" in made for made in rows), "of them errors")


if __name__ == "__main__":
    main()
