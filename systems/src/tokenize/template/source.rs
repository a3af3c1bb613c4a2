//! A template's source, checked and changed before it is compiled.
//!
//! minijinja's parser and values have no bound on some kinds of nesting, and a deep one overflows
//! the stack, which cannot be caught. So here:
//! - A tag has at most [`MAX_TAG_TOKENS`] tokens, which bounds chains such as `a.b.c` and `not not a`,
//!   and a template at most [`MAX_ELIFS`] `elif`, which nest.
//! - The value of every `set` goes through a function that bounds its depth and size
//!   (`values::checked`). Without it a loop can nest a list in itself without end.
//!
//! And the tags `generation` and `endgeneration`, which mark text for training and which minijinja
//! does not know, become a condition that is always true.
//!
//! The scan follows minijinja's lexer. No line is added or removed, so errors keep their lines.

use super::TemplateError;
use super::values::{CHECKED, CHECKED_ATTRIBUTE};

/// Most tokens in one tag; real templates have up to about 100.
const MAX_TAG_TOKENS: usize = 500;
/// Most `elif` in one template; real templates have up to about 30.
const MAX_ELIFS: usize = 200;

/// The source to compile.
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(source.len() + 256);
    let mut elifs = 0;
    let mut rest = source;
    while let Some((before, start)) = rest.find('{').map(|at| rest.split_at(at)) {
        out.push_str(before);
        let length = match start.as_bytes().get(1) {
            Some(b'#') => start.find("#}").map_or(start.len(), |at| at + 2),
            Some(b'{') => expression(start, source, rest)?.length,
            Some(b'%') => {
                let tag = expression(start, source, rest)?;
                elifs += usize::from(tag.name(start) == "elif");
                if elifs > MAX_ELIFS {
                    let reason = format!("the template has more than {MAX_ELIFS} elif");
                    return Err(TemplateError::Syntax { reason });
                }
                if tag.name(start) == "raw" {
                    raw_block(start, tag.length)
                } else {
                    out.push_str(&tag.rewrite(start));
                    rest = &start[tag.length..];
                    continue;
                }
            }
            _ => 1,
        };
        out.push_str(&start[..length]);
        rest = &start[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The length of a raw block whose first tag has this length.
fn raw_block(start: &str, tag: usize) -> usize {
    let mut at = tag;
    while let Some(found) = start[at..].find("{%") {
        at += found + 2;
        let inner = start[at..].trim_start_matches(['-', '+']).trim_start();
        if let Some(after) = inner.strip_prefix("endraw") {
            let end = after.trim_start().trim_start_matches(['-', '+']);
            if end.starts_with("%}") {
                return start.len() - end.len() + 2;
            }
        }
    }
    start.len()
}

/// A tag: where its parts are, in bytes from its first brace.
struct Tag {
    /// Of the whole tag, with its braces.
    length: usize,
    /// Where the first word starts and ends.
    word: (usize, usize),
    /// Where the content ends, before the closing mark.
    end: usize,
    /// The first `=` after the first word and outside of brackets.
    assignment: Option<usize>,
}

/// Scans a tag up to its end.
fn expression(start: &str, source: &str, rest: &str) -> Result<Tag, TemplateError> {
    let bytes = start.as_bytes();
    let close: &[u8] = if bytes.get(1) == Some(&b'{') { b"}}" } else { b"%}" };
    let mut at = 2 + usize::from(matches!(bytes.get(2), Some(b'-' | b'+')));
    let (mut balance, mut tokens) = (0i64, 0usize);
    let mut word = None;
    let mut assignment = None;
    while let Some(&byte) = bytes.get(at) {
        let signed = usize::from(matches!(byte, b'-' | b'+'));
        if balance == 0 && bytes[at + signed..].starts_with(close) {
            let word = word.unwrap_or((at, at));
            return Ok(Tag { length: at + signed + 2, word, end: at, assignment });
        }
        tokens += usize::from(!byte.is_ascii_whitespace());
        if tokens > MAX_TAG_TOKENS {
            let line = 1 + source[..source.len() - rest.len()].matches('\n').count();
            let reason = format!("a tag after line {line} has more than {MAX_TAG_TOKENS} tokens");
            return Err(TemplateError::Syntax { reason });
        }
        let from = at;
        at += match byte {
            b'\'' | b'"' => string(&bytes[at..]),
            _ if is_word(byte) => bytes[at..].iter().take_while(|&&byte| is_word(byte)).count(),
            _ => 1,
        };
        match byte {
            b'(' | b'[' | b'{' => balance += 1,
            b')' | b']' | b'}' => balance -= 1,
            b'=' if balance == 0
                && word.is_some()
                && assignment.is_none()
                && bytes.get(at) != Some(&b'=') =>
            {
                assignment = Some(from);
            }
            _ if is_word(byte) && word.is_none() => word = Some((from, at)),
            _ => {}
        }
    }
    // Not closed: the compiler will say so.
    Ok(Tag { length: start.len(), word: (0, 0), end: start.len(), assignment: None })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The length of a string literal with its quotes.
fn string(bytes: &[u8]) -> usize {
    let quote = bytes.first();
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if Some(byte) == quote => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

impl Tag {
    fn name<'t>(&self, tag: &'t str) -> &'t str {
        tag.get(self.word.0..self.word.1).unwrap_or_default()
    }

    /// The tag with what this module changes.
    fn rewrite(&self, tag: &str) -> String {
        let (head, tail) = (&tag[..self.word.0], &tag[self.word.1..self.length]);
        match (self.name(tag), self.assignment) {
            ("generation", _) => format!("{head}if true{tail}"),
            ("endgeneration", _) => format!("{head}endif{tail}"),
            ("set", Some(at)) => {
                let (target, value) = (&tag[..=at], &tag[at + 1..self.end]);
                let is_attribute = tag[self.word.1..at].contains('.');
                let function = if is_attribute { CHECKED_ATTRIBUTE } else { CHECKED };
                format!("{target}{function}(({value})){}", &tag[self.end..self.length])
            }
            _ => tag[..self.length].to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_rewritten_and_nothing_else() {
        for (source, expected) in [
            ("{%- generation -%}a{% endgeneration %}", "{%- if true -%}a{% endif %}"),
            (
                "{{ '{% generation %}' }}{# {% generation %} #}",
                "{{ '{% generation %}' }}{# {% generation %} #}",
            ),
            (
                "{% raw %}{% set a = 1 %}{%- endraw +%}{% set a = 1 %}",
                "{% raw %}{% set a = 1 %}{%- endraw +%}{% set a =C(( 1 ))%}",
            ),
            ("{% set a = 1 -%}", "{% set a =C(( 1 ))-%}"),
            ("{%-set ns.x = {'k': a == b}%}", "{%-set ns.x =A(( {'k': a == b}))%}"),
            ("{% set a, b = 1, '%}' %}", "{% set a, b =C(( 1, '%}' ))%}"),
            ("{% set a | f(x=1) %}b{% endset %}", "{% set a | f(x=1) %}b{% endset %}"),
            ("{ {{ {'a': {}} }} { {{ '\\'}}' }} {", "{ {{ {'a': {}} }} { {{ '\\'}}' }} {"),
            ("{% set x = é", "{% set x = é"),
            ("{%= set x = 1 %}", "{%= set x =C(( 1 ))%}"),
            ("{%", "{%"),
            ("{{-", "{{-"),
        ] {
            let got = prepare(source).unwrap().replace(CHECKED_ATTRIBUTE, "A").replace(CHECKED, "C");
            // The attribute's name has the other as its beginning.
            assert_eq!(got, expected, "{source}");
        }
        assert!(prepare(&format!("{{{{ x{} }}}}", ".a".repeat(MAX_TAG_TOKENS))).is_err());
        assert!(prepare(&"{% elif a %}".repeat(MAX_ELIFS + 1)).is_err());
    }
}
