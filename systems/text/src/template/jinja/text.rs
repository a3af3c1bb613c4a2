//! Values as text: Python's `str` and `repr`.

use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::python;
use super::value::{Callable, Value};
use std::fmt::Write;
use std::sync::Arc;

/// Python's `str` of a value.
///
/// # Errors
/// The value's text is an address in Python: a function or a generator.
pub(super) fn text(run: &mut Interpreter<'_>, value: &Value) -> Outcome<Arc<str>> {
    match value {
        Value::Str(text) | Value::Markup(text) => Ok(text.clone()),
        Value::Undefined(_) => Ok("".into()),
        _ => repr(run, value).map(Into::into),
    }
}

/// Python's `repr` of a value.
pub(super) fn repr(run: &mut Interpreter<'_>, value: &Value) -> Outcome<String> {
    let mut out = String::new();
    write_repr(run, value, &mut out)?;
    Ok(out)
}

fn write_repr(run: &mut Interpreter<'_>, value: &Value, out: &mut String) -> Outcome<()> {
    run.pay(1)?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) => write_string(run, text, out)?,
        Value::Markup(text) => {
            out.push_str("Markup(");
            write_string(run, text, out)?;
            out.push(')');
        }
        Value::List(items) => write_items(run, &items.items, '[', ']', out)?,
        Value::Tuple(items) => {
            write_items(run, &items.items, '(', ')', out)?;
            if items.items.len() == 1 {
                out.insert(out.len() - 1, ',');
            }
        }
        Value::View(name, items) => {
            out.push_str(name);
            out.push('(');
            write_items(run, &items.items, '[', ']', out)?;
            out.push(')');
        }
        Value::Dict(dict) => write_entries(run, &dict.entries, out)?,
        Value::Namespace(dict) => {
            out.push_str("<Namespace ");
            let entries = dict.borrow().entries.clone();
            write_entries(run, &entries, out)?;
            out.push('>');
        }
        Value::Range(range) => {
            let _ = write!(out, "range({}, {}", range.start, range.stop);
            if range.step != 1 {
                let _ = write!(out, ", {}", range.step);
            }
            out.push(')');
        }
        Value::Callable(callable) if matches!(&**callable, Callable::Macro(..)) => {
            if let Callable::Macro(index, _) = &**callable
                && let Some(node) = run.program.macros.get(*index)
            {
                let _ = write!(out, "<Macro '{}'>", node.name);
            }
        }
        Value::Iterator(_) => {
            return fault("the template prints a generator, whose text is an address: add `| list`");
        }
        Value::Loop(_) | Value::Cycler(_) | Value::Callable(_) => {
            return fault(format!("the template prints a {}, whose text is an address", value.type_name()));
        }
    }
    Ok(())
}

fn write_items(
    run: &mut Interpreter<'_>,
    items: &[Value],
    open: char,
    close: char,
    out: &mut String,
) -> Outcome<()> {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(run, item, out)?;
    }
    out.push(close);
    Ok(())
}

fn write_entries(run: &mut Interpreter<'_>, entries: &[(Value, Value)], out: &mut String) -> Outcome<()> {
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(run, key, out)?;
        out.push_str(": ");
        write_repr(run, value, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_string(run: &mut Interpreter<'_>, text: &str, out: &mut String) -> Outcome<()> {
    run.pay_bytes(text.len())?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(quote);
            }
            _ if python::is_printable(character) => out.push(character),
            _ => {
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02x}"),
                    0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    Ok(())
}

/// Python's `repr` of a float: the shortest digits that identify the value, with an exponent from 1e16 on and below
/// 1e-4.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes `1.5e-7` and `1e20`, Python `1.5e-07` and `1e+20`.
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

/// Python's `len`, or `None` if the value has no length. Counting the characters of a text costs fuel.
pub(super) fn length(run: &mut Interpreter<'_>, value: &Value) -> Outcome<Option<usize>> {
    Ok(match value {
        Value::Undefined(_) => Some(0),
        Value::Str(text) | Value::Markup(text) => {
            run.pay_bytes(text.len())?;
            Some(text.chars().count())
        }
        Value::List(items) | Value::Tuple(items) | Value::View(_, items) => Some(items.items.len()),
        Value::Dict(dict) => Some(dict.entries.len()),
        Value::Range(range) => usize::try_from(range.len()).ok(),
        Value::Loop(state) => state.length.get(),
        _ => None,
    })
}

/// Escapes the characters of HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::float;

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
            assert_eq!(float(value), expected);
        }
    }
}
