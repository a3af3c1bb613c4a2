//! `'%s' % value`.

use super::super::fault::{Outcome, fault};
use super::super::interpreter::Interpreter;
use super::super::text;
use super::super::value::Value;
use super::layout::{Spec, ascii, cut, number, pad};
use super::numbers::{float_value, integer_parts, pad_number};
use std::sync::Arc;

/// `text % values`.
pub(in crate::template::jinja) fn percent(
    run: &mut Interpreter<'_>,
    format: &str,
    values: &Value,
) -> Outcome<String> {
    run.pay_bytes(format.len())?;
    let positional = match values {
        Value::Tuple(items) => {
            run.pay_items(items.items.len())?;
            items.items.clone()
        }
        _ => vec![values.clone()],
    };
    let mut given = positional.into_iter();
    let mut by_name = false;
    let mut out = String::with_capacity(format.len());
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut named = None;
        if characters.next_if_eq(&'(').is_some() {
            let Value::Dict(dict) = values else { return fault("format requires a mapping") };
            let (mut key, mut depth) = (String::new(), 1);
            loop {
                let Some(character) = characters.next() else { return fault("incomplete format key") };
                match character {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                key.push(character);
            }
            let key: Arc<str> = key.into();
            let Some(value) = dict.get_str(&key) else {
                return fault(format!("'{key}' is not a key of the mapping"));
            };
            named = Some(value.clone());
            by_name = true;
        }
        let mut next = || match given.next() {
            Some(value) => Ok(value),
            None => fault("not enough arguments for format string"),
        };
        let mut spec = Spec::default();
        let (mut left, mut zero) = (false, false);
        while let Some(flag) = characters.next_if(|flag| matches!(flag, '-' | '+' | ' ' | '0' | '#')) {
            match flag {
                '-' => left = true,
                '0' => zero = true,
                '#' => spec.alternate = true,
                '+' => spec.sign = Some('+'),
                _ => spec.sign = spec.sign.or(Some(' ')),
            }
        }
        let star = |next: &mut dyn FnMut() -> Outcome<Value>| match next()?.as_int() {
            Some(number) => Ok(number),
            None => fault("* wants int"),
        };
        if characters.next_if_eq(&'*').is_some() {
            let width = star(&mut next)?;
            left |= width < 0;
            spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        } else {
            spec.width = number(&mut characters).unwrap_or(0);
        }
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(if characters.next_if_eq(&'*').is_some() {
                usize::try_from(star(&mut next)?.max(0)).unwrap_or(usize::MAX)
            } else {
                number(&mut characters).unwrap_or(0)
            });
        }
        while characters.next_if(|length| matches!(length, 'h' | 'l' | 'L')).is_some() {}
        let Some(kind) = characters.next() else { return fault("incomplete format") };
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => next()?,
        };
        if let (Value::Undefined(message), false) = (&value, kind == 's' || kind == 'r') {
            return fault(&**message);
        }
        spec.align = Some(if left { '<' } else { '>' });
        if zero && !left && !matches!(kind, 's' | 'r' | 'a' | 'c') {
            (spec.fill, spec.align) = (Some('0'), Some('='));
        }
        let written = percent_value(run, kind, spec, &value)?;
        run.pay_bytes(written.len())?;
        out.push_str(&written);
    }
    // To Python, a value with items by key is a mapping, and a format may leave a mapping unused.
    let mapping = matches!(values, Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_));
    if !by_name && !mapping && given.next().is_some() {
        return fault("not all arguments converted during string formatting");
    }
    Ok(out)
}

fn percent_value(run: &mut Interpreter<'_>, kind: char, mut spec: Spec, value: &Value) -> Outcome<String> {
    match kind {
        's' | 'r' | 'a' => {
            let shown = match kind {
                's' => text::text(run, value)?.to_string(),
                'r' => text::repr(run, value)?,
                _ => ascii(&text::repr(run, value)?),
            };
            run.pay_bytes(shown.len())?;
            pad(run, &cut(&shown, spec.precision), &spec, '>')
        }
        'c' => {
            let character = match (value.as_int(), value.as_str()) {
                (Some(code), _) => u32::try_from(code).ok().and_then(char::from_u32).map(String::from),
                (None, Some(text)) if text.chars().count() == 1 => Some(text.to_string()),
                _ => None,
            };
            match character {
                Some(character) => pad(run, &character, &spec, '>'),
                None => fault("%c requires int or char"),
            }
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let whole = match (value.as_int(), value) {
                (Some(number), _) => number,
                (None, Value::Float(number)) if matches!(kind, 'd' | 'i' | 'u') && number.is_finite() => {
                    if number.abs() >= 1e38 {
                        return fault("a number has too many digits");
                    }
                    number.trunc() as i128
                }
                _ if matches!(kind, 'd' | 'i' | 'u') => {
                    return fault(format!(
                        "%{kind} format: a real number is required, not {}",
                        value.type_name()
                    ));
                }
                _ => {
                    return fault(format!(
                        "%{kind} format: an integer is required, not {}",
                        value.type_name()
                    ));
                }
            };
            spec.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
            let digits = spec.precision.take().unwrap_or(0);
            let (sign, prefix, mut shown) = integer_parts(whole, &spec);
            run.pay_bytes(digits)?;
            if shown.len() < digits {
                shown.insert_str(0, &"0".repeat(digits - shown.len()));
            }
            pad_number(run, &sign, &format!("{prefix}{shown}"), prefix.len(), &spec)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let Some(number) = value.as_float() else {
                return fault(format!("must be real number, not {}", value.type_name()));
            };
            spec.kind = Some(kind);
            spec.precision = spec.precision.or(Some(6));
            float_value(run, number, &spec)
        }
        other => fault(format!("unsupported format character '{other}'")),
    }
}
