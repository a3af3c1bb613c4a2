//! `tojson` as Hugging Face defines it: Python's `json.dumps` with `ensure_ascii=False` as the default, and without
//! Jinja's escapes for HTML.

use super::super::args::Args;
use super::super::fault::{Outcome, fault};
use super::super::interpreter::Interpreter;
use super::super::text;
use super::super::value::Value;
use super::inputs::sorted;
use std::fmt::Write;

/// The filter. Arguments, by position or name: `ensure_ascii`, `indent`, `separators`, `sort_keys`.
pub(super) fn tojson(run: &mut Interpreter<'_>, value: &Value, args: Args) -> Outcome<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind("tojson", names, 0)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(indent) => match (indent.as_str(), indent.as_int()) {
            (Some(text), _) => Some(text.to_string()),
            (None, Some(width)) => {
                let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
                run.pay_bytes(width)?;
                Some(" ".repeat(width))
            }
            (None, None) => return fault("the indent of tojson is a number or a string"),
        },
    };
    let (item, key) = match separators {
        None | Some(Value::None) if indent.is_some() => (",".into(), ": ".into()),
        None | Some(Value::None) => (", ".into(), ": ".into()),
        Some(separators) => {
            let pair = run.items(&separators)?;
            match pair.as_slice() {
                [Value::Str(item), Value::Str(key)] => (item.to_string(), key.to_string()),
                _ => return fault("the separators of tojson are two strings"),
            }
        }
    };
    let mut writer = Writer {
        run,
        out: String::new(),
        paid: 0,
        indent,
        item,
        key,
        ascii: ascii.is_some_and(|value| value.is_true()),
        sort_keys: sort_keys.is_some_and(|value| value.is_true()),
    };
    writer.value(value, 0)?;
    writer.pay()?;
    let Writer { out, .. } = writer;
    Ok(Value::str(out))
}

struct Writer<'a, 'p> {
    run: &'a mut Interpreter<'p>,
    out: String,
    /// Bytes of `out` for which fuel has been taken.
    paid: usize,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort_keys: bool,
}

impl Writer<'_, '_> {
    /// Takes fuel for the text written since the last call. A small value that contains another value many times writes
    /// a large text.
    fn pay(&mut self) -> Outcome<()> {
        let new = self.out.len() - self.paid;
        self.paid = self.out.len();
        self.run.pay_bytes(new)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Outcome<()> {
        self.run.pay(1)?;
        self.pay()?;
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Int(number) => {
                let _ = write!(self.out, "{number}");
            }
            Value::Float(number) => self.out.push_str(&match *number {
                f64::INFINITY => "Infinity".to_owned(),
                f64::NEG_INFINITY => "-Infinity".to_owned(),
                number if number.is_nan() => "NaN".to_owned(),
                number => text::float(number),
            }),
            Value::Str(text) | Value::Markup(text) => self.string(text)?,
            Value::List(items) | Value::Tuple(items) => {
                self.out.push('[');
                for (index, item) in items.items.iter().enumerate() {
                    self.separate(index == 0, depth + 1)?;
                    self.value(item, depth + 1)?;
                }
                self.close(']', items.items.is_empty(), depth)?;
            }
            Value::Dict(dict) => {
                self.run.pay_items(dict.entries.len())?;
                let mut entries = dict.entries.clone();
                if self.sort_keys {
                    entries = sorted(self.run, entries, |(key, _)| key.clone())?;
                }
                self.out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    self.separate(index == 0, depth + 1)?;
                    self.name(key)?;
                    self.out.push_str(&self.key);
                    self.value(value, depth + 1)?;
                }
                self.close('}', entries.is_empty(), depth)?;
            }
            other => return fault(format!("Object of type {} is not JSON serializable", other.type_name())),
        }
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) -> Outcome<()> {
        if !first {
            self.out.push_str(&self.item);
        }
        self.new_line(depth)
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) -> Outcome<()> {
        if !empty {
            self.new_line(depth)?;
        }
        self.out.push(bracket);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Outcome<()> {
        if let Some(indent) = &self.indent {
            self.run.pay_bytes(indent.len().saturating_mul(depth))?;
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
        Ok(())
    }

    /// Writes the name of an entry: a string, or the text to which Python converts a key of another type.
    fn name(&mut self, key: &Value) -> Outcome<()> {
        match key {
            Value::Str(text) | Value::Markup(text) => self.string(text)?,
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.out.push('"');
                self.value(key, 0)?;
                self.out.push('"');
            }
            other => {
                let kind = other.type_name();
                return fault(format!("keys must be str, int, float, bool or None, not {kind}"));
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Outcome<()> {
        self.run.pay_bytes(text.len())?;
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(character));
                }
                '\u{7f}'.. if self.ascii && character != '\u{7f}' => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
        Ok(())
    }
}
