//! Reads the kind and the facts of an error from its derived `Debug` output.
//!
//! Every error of the engine is an enum whose variants carry the facts in named fields. `#[derive(Debug)]` prints one
//! as `Outer(Variant { file: "m.gguf", value: 3 })`; this module parses that text. The kind is the innermost variant
//! name that stands alone or before named fields, so wrappers disappear. If a field `source` holds another error of the
//! engine, that one gives the kind, and the facts of both are kept. What cannot be parsed is left out: the error is
//! then reported with fewer facts.

use serde_json::{Map, Value};
use std::fmt::Debug;

/// Returns the kind in snake case, and the named fields of an error.
pub(super) fn of(error: &impl Debug) -> (String, Map<String, Value>) {
    let text = format!("{error:?}");
    let mut found = Found::default();
    let mut reader = Reader { rest: &text };
    let _ = reader.variant(&mut found, 0);
    (snake_case(&found.kind), found.facts)
}

#[derive(Default)]
struct Found {
    kind: String,
    facts: Map<String, Value>,
}

/// Maximum nesting depth that is parsed. Errors nest four deep at most.
const DEPTH: usize = 16;

/// Names that `std::io::Error` prints itself with.
const SYSTEM_ERRORS: [&str; 4] = ["Os", "Custom", "Kind", "Error"];

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, token: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
        self.rest = rest;
        Some(word)
    }

    /// Parses `Name`, `Name(inner, …)` or `Name { field: value, … }`.
    fn variant(&mut self, found: &mut Found, depth: usize) -> Option<()> {
        let name = self.word()?;
        name.starts_with(|c: char| c.is_ascii_uppercase()).then_some(())?;
        name.clone_into(&mut found.kind);
        if depth > DEPTH {
            return None;
        }
        if self.skip('(').is_some() {
            let inner = Self { rest: self.rest }.variant_of_error(found, depth);
            return inner;
        }
        if self.skip('{').is_some() {
            return self.fields(found, depth);
        }
        Some(())
    }

    /// Parses the content of a wrapper. If it is another error, that error replaces the wrapper; any other value leaves
    /// the wrapper's name as the kind.
    fn variant_of_error(&mut self, found: &mut Found, depth: usize) -> Option<()> {
        let mut inner = Found::default();
        let read = self.variant(&mut inner, depth + 1);
        if !inner.kind.is_empty() && !SYSTEM_ERRORS.contains(&inner.kind.as_str()) {
            *found = inner;
        }
        read
    }

    fn fields(&mut self, found: &mut Found, depth: usize) -> Option<()> {
        while self.skip('}').is_none() {
            let name = self.word()?.to_owned();
            self.skip(':')?;
            if name == "source" {
                self.cause(found, depth + 1)?;
            } else {
                let value = self.value(depth + 1)?;
                found.facts.insert(name, value);
            }
            let _ = self.skip(',');
        }
        Some(())
    }

    /// Parses an error's cause. A cause of the engine's own replaces the kind, since it says more than the outer error.
    /// A cause of the operating system is part of the message already.
    fn cause(&mut self, found: &mut Found, depth: usize) -> Option<()> {
        let mut reader = Self { rest: self.rest };
        let own = reader.word().is_some_and(|name| !SYSTEM_ERRORS.contains(&name));
        let mut inner = Found::default();
        let read = Self { rest: self.rest }.variant(&mut inner, depth);
        self.value(depth)?;
        if own && read.is_some() {
            found.kind = inner.kind;
            found.facts.append(&mut inner.facts);
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH {
            return None;
        }
        let rest = self.rest.trim_start();
        match rest.chars().next()? {
            '"' => self.string().map(Value::from),
            open @ ('[' | '(') => {
                self.skip(open)?;
                let close = if open == '[' { ']' } else { ')' };
                let mut items = Vec::new();
                while self.skip(close).is_none() {
                    items.push(self.value(depth + 1)?);
                    let _ = self.skip(',');
                }
                Some(Value::from(items))
            }
            '-' | '0'..='9' => self.number(),
            _ => self.named_value(depth),
        }
    }

    fn string(&mut self) -> Option<String> {
        self.skip('"')?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    '0' => text.push('\0'),
                    'u' => {
                        let code: String =
                            chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').collect();
                        text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        None
    }

    /// Parses an integer, a float, or a range, which stays text.
    fn number(&mut self) -> Option<Value> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | '0'..='9')).unwrap_or(rest.len());
        let (number, rest) = rest.split_at_checked(end)?;
        self.rest = rest;
        Some(serde_json::from_str(number).unwrap_or_else(|_| Value::from(number)))
    }

    /// Parses `true`, `None`, `Some(value)`, a unit variant, or a structure.
    fn named_value(&mut self, depth: usize) -> Option<Value> {
        let name = self.word()?;
        match name {
            "true" => return Some(Value::Bool(true)),
            "false" => return Some(Value::Bool(false)),
            "None" => return Some(Value::Null),
            "Some" => {
                self.skip('(')?;
                let value = self.value(depth + 1)?;
                self.skip(')')?;
                return Some(value);
            }
            _ => {}
        }
        let mut inner = Found { kind: name.to_owned(), ..Found::default() };
        if self.skip('{').is_some() {
            self.fields(&mut inner, depth + 1)?;
        } else if self.skip('(').is_some() {
            while self.skip(')').is_none() {
                let value = self.value(depth + 1)?;
                inner.facts.insert(inner.facts.len().to_string(), value);
                let _ = self.skip(',');
            }
        }
        Some(if inner.facts.is_empty() { Value::from(inner.kind) } else { Value::Object(inner.facts) })
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    enum Inner {
        BadShape {
            file: String,
            found: Vec<u64>,
            scale: f32,
            near: Option<&'static str>,
            range: core::ops::Range<u64>,
        },
        Alone,
        Words(String),
        Layer {
            file: String,
            source: Box<Inner>,
        },
        Read {
            file: String,
            source: std::io::Error,
        },
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    enum Outer {
        Load(std::sync::Arc<Inner>),
    }

    fn load(inner: Inner) -> Outer {
        Outer::Load(std::sync::Arc::new(inner))
    }

    #[test]
    fn wrappers_disappear_and_fields_stay() {
        let (kind, facts) = of(&load(Inner::BadShape {
            file: "a \"b\"\n\u{7f} é, {}".into(),
            found: vec![1, 2],
            scale: -0.5,
            near: Some("x"),
            range: 3..9,
        }));
        assert_eq!(kind, "bad_shape");
        let wanted = json!({
            "file": "a \"b\"\n\u{7f} é, {}", "found": [1, 2], "scale": -0.5, "near": "x", "range": "3..9",
        });
        assert_eq!(Value::Object(facts), wanted);
    }

    #[test]
    fn a_cause_of_ours_is_the_kind_and_the_systems_is_not() {
        let cause = Box::new(Inner::Layer { file: "inner".into(), source: Box::new(Inner::Alone) });
        let (kind, facts) = of(&load(Inner::Layer { file: "m".into(), source: cause }));
        assert_eq!((kind.as_str(), Value::Object(facts)), ("alone", json!({"file": "inner"})));
        let system = [
            std::io::Error::from_raw_os_error(2),
            std::io::ErrorKind::NotFound.into(),
            std::io::Error::other("a b"),
        ];
        for source in system {
            let (kind, facts) = of(&load(Inner::Read { file: "m".into(), source }));
            assert_eq!((kind.as_str(), Value::Object(facts)), ("read", json!({"file": "m"})));
        }
    }

    #[test]
    fn variants_without_names_keep_their_own() {
        assert_eq!(of(&load(Inner::Alone)), ("alone".into(), Map::new()));
        assert_eq!(of(&load(Inner::Words("x".into()))).0, "words");
        assert_eq!(of(&42).0, "");
    }
}
