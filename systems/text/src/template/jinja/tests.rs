//! What a rendering costs, and that it leaks no memory.

use super::fault::Outcome;
use super::value::{Sequence, Value};
use super::{Fault, Jinja, Variable};
use std::rc::Rc;

fn render(source: &str, variables: Vec<(&str, Variable)>, fuel: u64) -> Outcome<String> {
    match Jinja::compile(source) {
        Ok(template) => template.render(variables, None, fuel),
        Err(fault) => panic!("{source}: {}", fault.message),
    }
}

/// A loop can contain itself and is freed all the same.
#[test]
fn what_a_rendering_was_given_is_freed() {
    for source in [
        "{% for m in [x] %}{{ loop.changed(loop) }}{% endfor %}",
        "{% for m in [x] %}{{ loop.changed([loop.changed], cycler(loop)) }}{% endfor %}",
        "{% for m in [x] %}{% set a = loop %}{% for n in [a] %}{{ a.changed(loop) }}{% endfor %}{% endfor %}",
        "{% for m in [x] recursive %}{{ loop.changed(loop) }}{% if m == x %}{{ loop([[x]]) }}{% endif %}{% endfor %}",
        "{% for m in [x] %}{{ loop.changed(loop) }}{{ raise_exception('no') }}{% endfor %}",
    ] {
        let Ok(list) = Sequence::new(Vec::new(), &[]).map(Rc::new) else { panic!("{source}") };
        let given = vec![("x", Variable(Value::List(list.clone())))];
        assert_eq!(render(source, given, 10_000).is_err(), source.contains("raise"), "{source}");
        assert_eq!(Rc::strong_count(&list), 1, "{source}");
    }
}

/// Enough fuel for the setup, and for at most a tenth of the work.
const FUEL: u64 = 500_000;

/// Returns the result of a rendering, or `None` if the fuel was used up.
fn ends(source: &str) -> Option<Outcome<usize>> {
    let result = render(source, Vec::new(), FUEL).map(|text| text.len());
    let out_of_fuel = matches!(&result, Err(fault) if matches!(**fault, Fault::OutOfFuel));
    (!out_of_fuel).then_some(result)
}

fn assert_runs_out(source: &str) {
    let end = ends(source);
    assert!(end.is_none(), "{source}: {end:?}");
}

#[test]
fn all_work_is_paid_for() {
    let mut free = Vec::new();
    for work in [
        "s|length",
        "s|count",
        "d[s]",
        "d.get(s)",
        "s in d",
        "d == {s: 1}",
        "{s: 1}",
        "dict(d)[s]",
        "f(**d)",
        "namespace(**d)",
        "{(s, s): 1}",
        "s|tojson",
        "d|tojson",
        "'%.1s' % s",
        "s|int",
        "s|float",
        "[s]|unique|list",
        "[s]|sort",
        "d|dictsort",
        "(s ~ 'b').startswith((s, s))",
        "'a'|truncate(99999999, end=s)",
        "{}|attr(s)",
        "big.items()",
        "big.keys()",
        "big|items",
        "big|dictsort",
        "dict(big)",
        "many|batch(1)|list",
        "many|slice(1999)|list",
        "many|groupby('real')",
        "many|map('string')|list",
        "lines.splitlines()",
        "lines.split()",
        "lines.split('\\n')",
        "lines|wordwrap",
    ] {
        let end = ends(&format!(
            "{{% macro f() %}}{{% set a = kwargs %}}{{% endmacro %}}{{% set s = 'a' * 1000000 %}}\
             {{% set d = {{s: 1}} %}}{{% set big = dict(range(1998)|batch(2)) %}}{{% set many = range(1999)|list %}}\
             {{% set lines = 'a\\n' * 2000 %}}{{% for i in range(500) %}}{{% set x = {work} %}}{{% endfor %}}"
        ));
        free.extend(end.map(|end| format!("{work}: {end:?}")));
    }
    assert!(free.is_empty(), "{}", free.join("\n"));
}

#[test]
fn calls_of_macros_are_paid_for() {
    let names = |form: fn(usize) -> String| (0..3000).map(form).collect::<Vec<_>>().join(", ");
    let parameters = names(|n| format!("a{n}"));
    let calls = "{% for i in range(500) %}{{ f(**d) }}{% endfor %}";
    for entries in [String::new(), names(|n| format!("'a{n}': 1"))] {
        assert_runs_out(&format!(
            "{{% macro f({parameters}) %}}{{% endmacro %}}{{% set d = {{{entries}}} %}}{calls}"
        ));
    }
}

/// A key with a thousand million parts, all of which are the same value.
#[test]
fn a_key_is_paid_for_as_it_is_read() {
    assert_runs_out(
        "{% set ns = namespace(x=()) %}{% for i in range(30) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
    );
}
