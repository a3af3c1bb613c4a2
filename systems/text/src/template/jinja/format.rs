//! Python's two ways to format text: `'%s' % value` and `'{}'.format(value)`.

use super::interpreter::Interpreter;
use super::value::Value;
use super::{Outcome, calls, fault, text};
use std::iter::{Peekable, repeat_n};
use std::str::Chars;
use std::sync::Arc;

/// How a value is laid out.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Digits of a number in a format; `usize::MAX` if they are too many, for which there is no fuel.
fn number(characters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut digits = String::new();
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX))
}

/// `text % values`.
pub(super) fn percent(run: &mut Interpreter<'_>, format: &str, values: &Value) -> Outcome<String> {
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
                return fault(format!("'{key}' is no key of the mapping"));
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
    // What has items by key is a mapping to Python, of which nothing need be used.
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

/// `text.format(…)`.
pub(super) fn braces(
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
    /// The field that `{}` takes next.
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

    /// The value of a field such as `0`, `name.attribute` or `name[key]`.
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
                // Any of the names may have to be compared.
                run.pay_bytes((first.len() + 16).saturating_mul(self.named.len()))?;
                self.named.iter().find(|(name, _)| **name == *first).map(|(_, value)| value)
            }
        };
        let Some(mut value) = found.cloned() else {
            return match at {
                Some(at) => fault(format!("Replacement index {at} out of range for positional args tuple")),
                None => fault(format!("the format has a field '{first}' that is not given")),
            };
        };
        while !path.is_empty() {
            if let Some(after) = path.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = calls::attribute(run, &value, &after[..end].into())?;
                path = &after[end..];
            } else if let Some((key, after)) = path.strip_prefix('[').and_then(|after| after.split_once(']'))
            {
                let number =
                    key.bytes().all(|byte| byte.is_ascii_digit()).then(|| key.parse().ok()).flatten();
                let key = number.map_or_else(|| Value::str(key), Value::Int);
                value = calls::item(run, &value, &key)?;
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

/// Sign, prefix and digits.
fn integer_parts(number: i128, spec: &Spec) -> (String, &'static str, String) {
    let sign = sign(number < 0, spec);
    let size = number.unsigned_abs();
    let (prefix, digits) = match spec.kind {
        Some('b') => ("0b", format!("{size:b}")),
        Some('o') => ("0o", format!("{size:o}")),
        Some('x') => ("0x", format!("{size:x}")),
        Some('X') => ("0X", format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    (sign, if spec.alternate { prefix } else { "" }, digits)
}

fn sign(negative: bool, spec: &Spec) -> String {
    match spec.sign {
        _ if negative => "-".to_owned(),
        Some('+') => "+".to_owned(),
        Some(' ') => " ".to_owned(),
        _ => String::new(),
    }
}

/// The most digits after the point that a float is written with. Rust's formatting panics beyond 16 bits of them, and `%g` asks for a
/// few more than its precision.
const MAX_PRECISION: usize = 1 << 15;

fn float_value(run: &mut Interpreter<'_>, number: f64, spec: &Spec) -> Outcome<String> {
    let precision = spec.precision.unwrap_or(6);
    // Digits are paid for before they are made.
    if precision > MAX_PRECISION {
        run.pay_bytes(precision)?;
        return fault("the precision of a format is too large");
    }
    run.pay_bytes(precision + 310)?;
    let sign = sign(number.is_sign_negative() && !number.is_nan(), spec);
    let size = number.abs();
    let kind = spec.kind.unwrap_or('\0');
    let mut shown = if !number.is_finite() {
        if number.is_nan() { "nan" } else { "inf" }.to_owned()
    } else {
        match kind.to_ascii_lowercase() {
            'f' => format!("{size:.precision$}"),
            '%' => format!("{:.precision$}", size * 100.0),
            'e' => exponent(&format!("{size:.precision$e}")),
            'g' | 'n' => general(size, precision, spec.alternate),
            _ => match spec.precision {
                None => text::float(size),
                Some(precision) => {
                    let shown = general(size, precision, false);
                    if shown.contains(['.', 'e']) { shown } else { shown + ".0" }
                }
            },
        }
    };
    if spec.alternate && !shown.contains('.') && matches!(kind, 'f' | 'F' | 'e' | 'E') && number.is_finite() {
        let at = shown.find('e').unwrap_or(shown.len());
        shown.insert(at, '.');
    }
    if kind.is_ascii_uppercase() {
        shown = shown.to_ascii_uppercase();
    }
    let end = shown.find(['.', 'e', 'E']).unwrap_or(shown.len());
    shown = group(&shown[..end], spec.grouping, 3) + &shown[end..];
    if kind == '%' {
        shown.push('%');
    }
    pad_number(run, &sign, &shown, 0, spec)
}

/// `1.5e-7` as Python writes it: a sign and two digits in the exponent.
fn exponent(shown: &str) -> String {
    let (digits, exponent) = shown.split_once('e').unwrap_or((shown, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// C's `%g`.
fn general(size: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    let scientific = format!("{size:.*e}", precision - 1);
    let power: i64 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let fixed = (-4..precision as i64).contains(&power);
    let shown = if fixed {
        format!("{size:.*}", usize::try_from(precision as i64 - 1 - power).unwrap_or(0))
    } else {
        exponent(&scientific)
    };
    if alternate {
        return shown;
    }
    let (digits, tail) = shown.split_at(shown.find('e').unwrap_or(shown.len()));
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits}{tail}")
}

fn group(digits: &str, separator: Option<char>, size: usize) -> String {
    let Some(separator) = separator else { return digits.to_owned() };
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

fn pad_number(
    run: &mut Interpreter<'_>,
    sign: &str,
    shown: &str,
    prefix: usize,
    spec: &Spec,
) -> Outcome<String> {
    if spec.align == Some('=') {
        if spec.grouping.is_some() && spec.width > sign.len() + shown.len() {
            return fault("a format with both zeros in front and groups of digits is not supported");
        }
        let missing = spec.width.saturating_sub(sign.len() + shown.len());
        run.pay_bytes(missing)?;
        let fill: String = repeat_n(spec.fill.unwrap_or(' '), missing).collect();
        return Ok(format!("{sign}{}{fill}{}", &shown[..prefix], &shown[prefix..]));
    }
    pad(run, &format!("{sign}{shown}"), spec, '>')
}

fn pad(run: &mut Interpreter<'_>, shown: &str, spec: &Spec, default: char) -> Outcome<String> {
    let missing = spec.width.saturating_sub(shown.chars().count());
    run.pay_bytes(missing.saturating_mul(4))?;
    let fill = |count| repeat_n(spec.fill.unwrap_or(' '), count).collect::<String>();
    let left = match spec.align.unwrap_or(default) {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    Ok(format!("{}{shown}{}", fill(left), fill(missing - left)))
}

fn cut(shown: &str, characters: Option<usize>) -> String {
    match characters {
        Some(count) => shown.chars().take(count).collect(),
        None => shown.to_owned(),
    }
}

/// Text with escapes for what is not ASCII.
fn ascii(shown: &str) -> String {
    let mut out = String::with_capacity(shown.len());
    for character in shown.chars() {
        match u32::from(character) {
            0..0x80 => out.push(character),
            code @ 0x80..0x100 => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}
