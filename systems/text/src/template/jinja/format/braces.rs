//! `'{}'.format(value)`.

use super::super::fault::{Outcome, fault};
use super::super::interpreter::Interpreter;
use super::super::value::Value;
use super::super::{attributes, text};
use super::layout::{Spec, ascii, cut, number, pad};
use super::numbers::{float_value, group, integer_parts, pad_number};
use std::sync::Arc;

/// `text.format(…)`.
pub(in crate::template::jinja) fn braces(
    run: &mut Interpreter<'_>,
    format: &str,
    positional: &[Value],
    named: &[(Arc<str>, Value)],
) -> Outcome<String> {
    let mut fields = Fields { positional, named, next: 0, by_number: false };
    fields.format(run, format, 0)
}

struct Fields<'a> {
    positional: &'a [Value],
    named: &'a [(Arc<str>, Value)],
    /// The index of the argument that the next `{}` takes.
    next: usize,
    by_number: bool,
}

impl Fields<'_> {
    fn format(&mut self, run: &mut Interpreter<'_>, format: &str, depth: usize) -> Outcome<String> {
        if depth > 1 {
            return fault("Max string recursion exceeded");
        }
        run.pay_bytes(format.len())?;
        let mut out = String::with_capacity(format.len());
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return fault("Single '}' encountered in format string");
            }
            let mut open = 1;
            let (mut in_brackets, mut in_spec) = (false, false);
            let mut end = None;
            for (at, character) in rest.char_indices() {
                match character {
                    '[' if open == 1 && !in_spec => in_brackets = true,
                    ']' => in_brackets = false,
                    '{' if !in_brackets => open += 1,
                    '}' if !in_brackets => open -= 1,
                    ':' | '!' => in_spec = true,
                    _ => {}
                }
                if open == 0 {
                    end = Some(at);
                    break;
                }
            }
            let Some(end) = end else { return fault("expected '}' before end of string") };
            let written = self.field(run, &rest[..end], depth)?;
            run.pay_bytes(written.len())?;
            out.push_str(&written);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn field(&mut self, run: &mut Interpreter<'_>, field: &str, depth: usize) -> Outcome<String> {
        let mut split = field.len();
        let mut in_brackets = false;
        for (at, character) in field.char_indices() {
            match character {
                '[' => in_brackets = true,
                ']' => in_brackets = false,
                ':' | '!' if !in_brackets => {
                    split = at;
                    break;
                }
                _ => {}
            }
        }
        let (name, rest) = field.split_at(split);
        let (conversion, spec) = match rest.strip_prefix('!') {
            Some(after) => {
                let mut characters = after.chars();
                let conversion = characters.next();
                match (conversion, characters.as_str()) {
                    (Some(_), "") => (conversion, ""),
                    (Some(_), spec) if spec.starts_with(':') => (conversion, &spec[1..]),
                    _ => return fault("expected ':' after conversion specifier"),
                }
            }
            None => (None, rest.strip_prefix(':').unwrap_or("")),
        };
        let mut value = self.value(run, name)?;
        match conversion {
            None => {}
            Some('s') => value = Value::Str(text::text(run, &value)?),
            Some('r') => value = Value::str(text::repr(run, &value)?),
            Some('a') => value = Value::str(ascii(&text::repr(run, &value)?)),
            Some(other) => return fault(format!("Unknown conversion specifier {other}")),
        }
        let spec =
            if spec.contains(['{', '}']) { self.format(run, spec, depth + 1)? } else { spec.to_owned() };
        value_in(run, &value, &spec)
    }

    /// Returns the value of a field such as `0`, `name.attribute` or `name[key]`.
    fn value(&mut self, run: &mut Interpreter<'_>, name: &str) -> Outcome<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let at = if first.is_empty() {
            if self.by_number {
                return fault("cannot switch from manual field specification to automatic field numbering");
            }
            self.next += 1;
            Some(self.next - 1)
        } else if first.bytes().all(|byte| byte.is_ascii_digit()) {
            if self.next > 0 {
                return fault("cannot switch from automatic field numbering to manual field specification");
            }
            self.by_number = true;
            Some(first.parse().unwrap_or(usize::MAX))
        } else {
            None
        };
        let found = match at {
            Some(at) => self.positional.get(at),
            None => {
                // The lookup may compare every name.
                run.pay_bytes((first.len() + 16).saturating_mul(self.named.len()))?;
                self.named.iter().find(|(name, _)| **name == *first).map(|(_, value)| value)
            }
        };
        let Some(mut value) = found.cloned() else {
            return match at {
                Some(at) => fault(format!("Replacement index {at} out of range for positional args tuple")),
                None => fault(format!("the format has no argument for its field '{first}'")),
            };
        };
        while !path.is_empty() {
            if let Some(after) = path.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = attributes::attribute(run, &value, &after[..end].into())?;
                path = &after[end..];
            } else if let Some((key, after)) = path.strip_prefix('[').and_then(|after| after.split_once(']'))
            {
                let number =
                    key.bytes().all(|byte| byte.is_ascii_digit()).then(|| key.parse().ok()).flatten();
                let key = number.map_or_else(|| Value::str(key), Value::Int);
                value = attributes::item(run, &value, &key)?;
                path = after;
            } else {
                return fault("Only '.' or '[' may follow ']' in format field specifier");
            }
        }
        Ok(value)
    }
}

fn parse_spec(spec: &str) -> Outcome<Spec> {
    let mut parsed = Spec::default();
    let mut characters = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    let is_align = |character: Option<char>| matches!(character, Some('<' | '>' | '=' | '^'));
    if is_align(second) {
        parsed.fill = first;
        parsed.align = second;
        characters.next();
        characters.next();
    } else if is_align(first) {
        parsed.align = first;
        characters.next();
    }
    parsed.sign = characters.next_if(|sign| matches!(sign, '+' | '-' | ' '));
    parsed.alternate = characters.next_if_eq(&'#').is_some();
    if characters.next_if_eq(&'0').is_some() {
        parsed.fill = parsed.fill.or(Some('0'));
        parsed.align = parsed.align.or(Some('='));
    }
    parsed.width = number(&mut characters).unwrap_or(0);
    parsed.grouping = characters.next_if(|character| matches!(character, ',' | '_'));
    if characters.next_if_eq(&'.').is_some() {
        parsed.precision = number(&mut characters);
        if parsed.precision.is_none() {
            return fault("Format specifier missing precision");
        }
    }
    parsed.kind = characters.next();
    if characters.next().is_some() {
        return fault("Invalid format specifier");
    }
    Ok(parsed)
}

/// Python's `format(value, spec)`.
fn value_in(run: &mut Interpreter<'_>, value: &Value, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return text::text(run, value).map(|text| text.to_string());
    }
    let spec = parse_spec(spec)?;
    let unknown = |kind: char| {
        fault(format!("Unknown format code '{kind}' for object of type '{}'", value.type_name()))
    };
    match value {
        Value::Str(shown) | Value::Markup(shown) => match spec.kind {
            None | Some('s') if spec.align == Some('=') && spec.fill != Some('0') => {
                fault("'=' alignment not allowed in string format specifier")
            }
            None | Some('s') => {
                let mut spec = spec;
                if spec.align == Some('=') {
                    spec.align = Some('<');
                }
                pad(run, &cut(shown, spec.precision), &spec, '<')
            }
            Some(kind) => unknown(kind),
        },
        Value::Bool(_) if matches!(spec.kind, None | Some('s')) && spec.kind.is_some() => unknown('s'),
        Value::Int(_) | Value::Bool(_) => {
            let whole = value.as_int().unwrap_or_default();
            match spec.kind {
                None | Some('d' | 'b' | 'o' | 'x' | 'X' | 'n') => {
                    if spec.precision.is_some() {
                        return fault("Precision not allowed in integer format specifier");
                    }
                    let (sign, prefix, digits) = integer_parts(whole, &spec);
                    let digits = group(
                        &digits,
                        spec.grouping,
                        if matches!(spec.kind, Some('b' | 'o' | 'x' | 'X')) { 4 } else { 3 },
                    );
                    pad_number(run, &sign, &format!("{prefix}{digits}"), prefix.len(), &spec)
                }
                Some('c') => match u32::try_from(whole).ok().and_then(char::from_u32) {
                    Some(character) => pad(run, &String::from(character), &spec, '<'),
                    None => fault("%c arg not in range(0x110000)"),
                },
                Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => float_value(run, whole as f64, &spec),
                Some(kind) => unknown(kind),
            }
        }
        Value::Float(number) => match spec.kind {
            None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%') => float_value(run, *number, &spec),
            Some(kind) => unknown(kind),
        },
        Value::Undefined(message) => fault(&**message),
        _ => fault(format!("unsupported format string passed to {}.__format__", value.type_name())),
    }
}
