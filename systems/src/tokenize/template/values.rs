//! Values of templates: bounds on their nesting, and their text as Python writes it.
//!
//! minijinja walks nested values by recursion and without taking fuel. A template can make a small
//! value with a huge text (a list that holds another one twice, that again, and so on), or one so
//! deep that dropping it overflows the stack. Everything here takes fuel and stops at [`MAX_DEPTH`].
//!
//! What remains: a template that is made for it can nest such values in loops and macro calls and then
//! compare them, and minijinja's comparison takes exponential time. It ends in no crash.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::fmt::Write;

/// How deep a value may be nested: twice what the input may be.
pub(super) const MAX_DEPTH: usize = 256;
/// The function around the value of `{% set name = … %}`.
pub(super) const CHECKED: &str = "__checked";
/// The function around the value of `{% set namespace.name = … %}`.
pub(super) const CHECKED_ATTRIBUTE: &str = "__attribute_checked";
/// Items looked at for one unit of fuel.
const ITEMS_PER_FUEL: usize = 2;
/// Bytes written for one unit of fuel.
const BYTES_PER_FUEL: usize = 64;

/// Adds what is here to an environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_function(CHECKED, |state: &State, value: Value| checked(state, value, false));
    environment.add_function(CHECKED_ATTRIBUTE, |state: &State, value: Value| checked(state, value, true));
    environment.add_filter("string", text);
    environment.set_formatter(|out: &mut Output, state: &mut State, value: &Value| {
        match value.as_str() {
            Some(text) => out.write_str(text)?,
            None => out.write_str(&text(state, value)?)?,
        }
        Ok(())
    });
}

/// A value that may be stored: not too deep, not too large, and, as the attribute of a namespace,
/// not one that could come to hold itself.
fn checked(state: &State, value: Value, is_attribute: bool) -> Result<Value, Error> {
    let value = match value.kind() {
        // A lazy value holds what it was made from. Made a list, its depth can be seen.
        ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                state.consume_fuel(1)?;
                items.push(item?);
            }
            Value::from(items)
        }
        _ => value,
    };
    let mut walk = Walk { state, items: 0, is_attribute };
    walk.value(&value, 0)?;
    Ok(value)
}

struct Walk<'a, 'env, 'text> {
    state: &'a State<'env, 'text>,
    items: usize,
    is_attribute: bool,
}

impl Walk<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let kind = value.kind();
        if !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
            return Ok(());
        }
        let is_namespace =
            value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"));
        if is_namespace && self.is_attribute {
            return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot hold a namespace"));
        }
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        for item in value.try_iter()?.checked() {
            let item = item?;
            self.items += 1;
            if self.items.is_multiple_of(ITEMS_PER_FUEL) {
                self.state.consume_fuel(1)?;
            }
            if kind == ValueKind::Map {
                self.value(&value.get_item(&item)?, depth + 1)?;
            } else {
                self.value(&item, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The error of a value that is nested too deep.
pub(super) fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value is nested deeper than {MAX_DEPTH}"))
}

/// Python's `str` of a value; nothing if it is undefined.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut writer = Repr { state, out: String::new(), paid: 0 };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Repr<'a, 'env, 'text> {
    state: &'a State<'env, 'text>,
    out: String,
    /// Bytes of `out` that fuel has been taken for.
    paid: usize,
}

impl Repr<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let fuel = 1 + (self.out.len() - self.paid) / BYTES_PER_FUEL;
        self.paid = self.out.len();
        self.state.consume_fuel(fuel as u64)?;
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::Undefined => {}
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Number if !value.is_integer() => {
                self.out.push_str(&python_float(f64::try_from(value.clone())?));
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
                self.out.push(open);
                let mut count = 0;
                for item in value.try_iter()?.checked() {
                    if count > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(&item?, depth + 1)?;
                    count += 1;
                }
                if value.is_tuple() && count == 1 {
                    self.out.push(',');
                }
                self.out.push(close);
            }
            ValueKind::Map => {
                self.out.push('{');
                for (index, key) in value.try_iter()?.checked().enumerate() {
                    let key = key?;
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(&key, depth + 1)?;
                    self.out.push_str(": ");
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.out.push('}');
            }
            ValueKind::Invalid => return Err(Error::new(ErrorKind::BadSerialization, value.to_string())),
            _ => {
                let _ = write!(self.out, "{value}");
            }
        }
        Ok(())
    }

    /// A string in a list or map.
    fn string(&mut self, text: &str) {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.out.push(quote);
        for character in text.chars() {
            let code = u32::from(character);
            match character {
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                _ if character == quote => {
                    self.out.push('\\');
                    self.out.push(quote);
                }
                _ if is_printable(character) => self.out.push(character),
                _ if code < 0x100 => {
                    let _ = write!(self.out, "\\x{code:02x}");
                }
                _ if code < 0x1_0000 => {
                    let _ = write!(self.out, "\\u{code:04x}");
                }
                _ => {
                    let _ = write!(self.out, "\\U{code:08x}");
                }
            }
        }
        self.out.push(quote);
    }
}

/// Whether Python shows a character as it is: not controls, formats, separators or private use.
fn is_printable(character: char) -> bool {
    character == ' '
        || !(character.is_control()
            || character.is_whitespace()
            || matches!(character,
                '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'
                | '\u{f0000}'..))
}

/// A float as Python's `repr`: the shortest digits that give it back, with an exponent from 1e16
/// on and below 1e-4.
pub(super) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes `1.5e-7` and `1e20`; Python `1.5e-07` and `1e+20`.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-2.5e300, "-2.5e+300"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }
}
