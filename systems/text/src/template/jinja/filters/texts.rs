//! Filters of text and numbers.

use super::super::calls::Args;
use super::super::interpreter::Interpreter;
use super::super::numbers::{parse_float, parse_int};
use super::super::python::{self, is_space};
use super::super::value::Value;
use super::super::{Outcome, fault, format as formatting, methods, text};
use super::{integer, is_set, sorted};
use std::cmp::Ordering;
use std::sync::Arc;

type Run<'a, 'p> = &'a mut Interpreter<'p>;

/// The text of a value, paid for.
fn soft(run: Run<'_, '_>, value: &Value) -> Outcome<Arc<str>> {
    let text = text::text(run, value)?;
    run.pay_bytes(text.len())?;
    Ok(text)
}

pub(super) fn string(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("string")?;
    match value {
        Value::Markup(_) => Ok(value.clone()),
        _ => Ok(Value::Str(soft(run, value)?)),
    }
}

pub(super) fn safe(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("safe")?;
    Ok(Value::Markup(soft(run, value)?))
}

pub(super) fn escape(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("escape")?;
    if let Value::Markup(_) = value {
        return Ok(value.clone());
    }
    Ok(Value::Markup(text::escape(&soft(run, value)?).into()))
}

pub(super) fn forceescape(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("forceescape")?;
    Ok(Value::Markup(text::escape(&soft(run, value)?).into()))
}

pub(super) fn upper(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("upper")?;
    Ok(Value::str(soft(run, value)?.to_uppercase()))
}

pub(super) fn lower(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("lower")?;
    Ok(Value::str(soft(run, value)?.to_lowercase()))
}

pub(super) fn capitalize(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("capitalize")?;
    Ok(Value::str(python::capitalize(&soft(run, value)?)))
}

/// Words begin after white space, `-` and opening brackets.
pub(super) fn title(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("title")?;
    let text = soft(run, value)?;
    let mut out = String::with_capacity(text.len());
    let separates = |character: char| is_space(character) || matches!(character, '-' | '(' | '{' | '[' | '<');
    let mut rest: &str = &text;
    while let Some(first) = rest.chars().next() {
        let inside = separates(first);
        let end = rest.find(|character| separates(character) != inside).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        out.extend(first.to_uppercase());
        out.push_str(&part[first.len_utf8()..].to_lowercase());
        rest = after;
    }
    Ok(Value::str(out))
}

pub(super) fn trim(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [characters] = args.bind("trim", ["chars"], 0)?;
    let text = soft(run, value)?;
    let characters = match &characters {
        None | Some(Value::None) => None,
        Some(characters) => match characters.as_str() {
            Some(characters) => Some(characters.clone()),
            None => return fault("strip arg must be None or str"),
        },
    };
    Ok(Value::str(methods::strip(run, &text, characters.as_deref(), true, true)?))
}

pub(super) fn center(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [width] = args.bind("center", ["width"], 0)?;
    let text = soft(run, value)?;
    methods::justify(run, &text, "center", integer("center", &width, 80)?, ' ').map(Value::str)
}

pub(super) fn replace(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"], 2)?;
    let text = soft(run, value)?;
    let old = soft(run, &old.unwrap_or(Value::None))?;
    let new = soft(run, &new.unwrap_or(Value::None))?;
    let count = integer("replace", &count.filter(|count| !count.is_none()), -1)?;
    methods::replace(run, &text, &old, &new, count).map(Value::str)
}

pub(super) fn format(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let text = soft(run, value)?;
    let values = match (args.positional.is_empty(), args.named.is_empty()) {
        (false, false) => return fault("can't handle positional and keyword arguments at the same time"),
        (true, false) => {
            let mut dict = super::super::value::Dict::default();
            for (name, value) in args.named {
                run.insert(&mut dict, Value::Str(name), value)?;
            }
            Value::Dict(std::rc::Rc::new(dict))
        }
        _ => run.tuple(args.positional)?,
    };
    formatting::percent(run, &text, &values).map(Value::str)
}

pub(super) fn indent(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"], 0)?;
    let Some(text) = value.as_str() else {
        return match value {
            Value::Undefined(message) => fault(&**message),
            _ => fault(format!("unsupported operand type(s) for +=: '{}' and 'str'", value.type_name())),
        };
    };
    let indention = match width.as_ref().and_then(Value::as_str) {
        Some(indention) => indention.to_string(),
        None => {
            let width = usize::try_from(integer("indent", &width, 4)?.max(0)).unwrap_or(usize::MAX);
            run.pay_bytes(width)?;
            " ".repeat(width)
        }
    };
    let text = format!("{text}\n");
    let lines = methods::lines(run, &text, false)?;
    run.pay_bytes(text.len().saturating_add(indention.len().saturating_mul(lines.len())))?;
    let mut out = String::with_capacity(text.len());
    for (index, line) in lines.into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { is_set(&first) } else { is_set(&blank) || !line.is_empty() } {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(Value::str(out))
}

pub(super) fn truncate(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let Some(text) = value.as_str() else {
        return fault(format!("truncate() takes a str, not {}", value.type_name()));
    };
    run.pay_bytes(text.len())?;
    let length = integer("truncate", &length, 255)?;
    let leeway = integer("truncate", &leeway.filter(|leeway| !leeway.is_none()), 5)?;
    let end = match &end {
        None => "...".into(),
        Some(end) => text::text(run, end)?,
    };
    run.pay_bytes(end.len())?;
    let end_length = end.chars().count() as i128;
    if length < end_length {
        return fault(format!("expected length >= {end_length}, got {length}"));
    }
    if leeway < 0 {
        return fault(format!("expected leeway >= 0, got {leeway}"));
    }
    if text.chars().count() as i128 <= length.saturating_add(leeway) {
        return Ok(Value::Str(text.clone()));
    }
    let kept: String =
        text.chars().take(usize::try_from(length - end_length).unwrap_or(usize::MAX)).collect();
    let kept = if is_set(&kill) { &kept } else { kept.rsplit_once(' ').map_or(&*kept, |(before, _)| before) };
    Ok(Value::str(format!("{kept}{end}")))
}

/// Python's `textwrap.wrap`, for text without hyphens and tabs, at which it does more than this.
pub(super) fn wordwrap(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, wrap, hyphens] = args.bind("wordwrap", names, 0)?;
    let Some(text) = value.as_str() else {
        return fault(format!("wordwrap() takes a str, not {}", value.type_name()));
    };
    // Each word is a vector of characters first.
    run.pay_items(text.len())?;
    if text.contains(['-', '—']) && hyphens.as_ref().is_none_or(Value::is_true) {
        return fault("the filter `wordwrap` is not supported for text with hyphens");
    }
    let width = usize::try_from(integer("wordwrap", &width, 79)?.max(0)).unwrap_or(usize::MAX);
    if width == 0 {
        return fault("invalid width 0 (must be > 0)");
    }
    let break_long = long.as_ref().is_none_or(Value::is_true);
    let wrap = match &wrap {
        None | Some(Value::None) => "\n".into(),
        Some(wrap) => text::text(run, wrap)?,
    };
    let mut lines: Vec<String> = Vec::new();
    for paragraph in methods::lines(run, text, false)? {
        let wrapped = wrapped(paragraph, width, break_long);
        // A blank paragraph stays a line.
        if wrapped.is_empty() { lines.push(String::new()) } else { lines.extend(wrapped) }
    }
    run.pay_bytes(wrap.len().saturating_mul(lines.len()))?;
    Ok(Value::str(lines.join(&wrap)))
}

fn wrapped(paragraph: &str, width: usize, break_long: bool) -> Vec<String> {
    // Words and the spaces between them, the next one last.
    let mut chunks: Vec<Vec<char>> = Vec::new();
    for character in paragraph.chars() {
        let blank = matches!(character, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ');
        match chunks.last_mut() {
            Some(chunk) if matches!(chunk[0], '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ') == blank => {
                chunk.push(character);
            }
            _ => chunks.push(vec![character]),
        }
    }
    chunks.reverse();
    let is_blank = |chunk: &Vec<char>| chunk.iter().all(|character| is_space(*character));
    let mut lines: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let mut line: Vec<Vec<char>> = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && chunks.last().is_some_and(is_blank) {
            chunks.pop();
        }
        while let Some(chunk) = chunks.last() {
            if length + chunk.len() > width {
                break;
            }
            length += chunk.len();
            line.extend(chunks.pop());
        }
        if let Some(chunk) = chunks.last_mut().filter(|chunk| chunk.len() > width) {
            if break_long {
                let rest = chunk.split_off(width - length);
                line.push(std::mem::replace(chunk, rest));
            } else if line.is_empty() {
                line.extend(chunks.pop());
            }
        }
        if line.last().is_some_and(is_blank) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.into_iter().flatten().collect());
        }
    }
    lines
}

pub(super) fn wordcount(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("wordcount")?;
    let text = soft(run, value)?;
    let is_word = |character: char| character == '_' || python::is_alphanumeric(character);
    let words = text.split(|character| !is_word(character)).filter(|word| !word.is_empty()).count();
    Ok(Value::Int(words as i128))
}

pub(super) fn striptags(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("striptags")?;
    let mut text = soft(run, value)?.to_string();
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let mut from = 0;
        while let Some(start) = text[from..].find(open).map(|at| from + at) {
            let Some(length) = text[start..].find(close) else { break };
            text.replace_range(start..start + length + close.len(), "");
            run.pay_bytes(text.len())?;
            from = start;
        }
    }
    // A word takes 16 bytes, and with what separates it at least two of the text.
    run.pay_bytes(text.len().saturating_mul(8))?;
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    let text = words.join(" ");
    let plain = ["&lt;", "&gt;", "&#39;", "&#34;", "&quot;", "&amp;"]
        .into_iter()
        .zip(["<", ">", "'", "\"", "\"", "&"])
        .fold(text, |text, (entity, character)| text.replace(entity, character));
    if plain.contains('&') && plain.contains(';') {
        return fault("the filter `striptags` is not supported for text with entities of HTML");
    }
    Ok(Value::str(plain))
}

/// Text for a URL: what is neither a letter, a digit nor one of `_.-~` and `safe` becomes bytes in hexadecimal.
fn quoted(text: &str, for_query: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if !for_query => out.push('/'),
            b' ' if for_query => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

pub(super) fn urlencode(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("urlencode")?;
    let pairs = match value {
        Value::Dict(dict) => {
            run.pay_items(dict.entries.len())?;
            dict.entries.clone()
        }
        Value::Str(_) | Value::Markup(_) => return Ok(Value::str(quoted(&soft(run, value)?, false))),
        _ if !super::super::checks::is_iterable(value) => {
            return Ok(Value::str(quoted(&soft(run, value)?, false)));
        }
        _ => {
            let mut pairs = Vec::new();
            for pair in run.items(value)? {
                match run.items(&pair)?.as_slice() {
                    [key, value] => pairs.push((key.clone(), value.clone())),
                    _ => return fault("urlencode() takes pairs of a key and a value"),
                }
            }
            pairs
        }
    };
    let mut parts = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        parts.push(format!("{}={}", quoted(&soft(run, &key)?, true), quoted(&soft(run, &value)?, true)));
    }
    Ok(Value::str(parts.join("&")))
}

pub(super) fn xmlattr(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [space] = args.bind("xmlattr", ["autospace"], 0)?;
    let Value::Dict(dict) = value else {
        return fault(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    run.pay_items(dict.entries.len())?;
    let mut parts = Vec::new();
    for (key, value) in &dict.entries {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let key = soft(run, key)?;
        if key.contains(|c: char| c.is_ascii_whitespace() || c == '\u{b}' || matches!(c, '/' | '>' | '=')) {
            return fault(format!("Invalid character in attribute name: '{key}'"));
        }
        parts.push(format!("{}=\"{}\"", text::escape(&key), text::escape(&soft(run, value)?)));
    }
    let joined = parts.join(" ");
    let spaced = space.as_ref().is_none_or(Value::is_true) && !joined.is_empty();
    Ok(Value::str(if spaced { format!(" {joined}") } else { joined }))
}

pub(super) fn pprint(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("pprint")?;
    let value = in_key_order(run, value)?;
    let shown = text::repr(run, &value)?;
    if shown.chars().count() > 80 {
        return fault("the filter `pprint` is not supported for what takes more than a line");
    }
    Ok(Value::str(shown))
}

/// A value whose dicts are sorted.
fn in_key_order(run: Run<'_, '_>, value: &Value) -> Outcome<Value> {
    run.pay(1)?;
    Ok(match value {
        Value::Dict(dict) => {
            let mut sorted_dict = super::super::value::Dict::default();
            for (key, value) in sorted(run, dict.entries.clone(), |(key, _)| key.clone())? {
                let value = in_key_order(run, &value)?;
                run.insert(&mut sorted_dict, key, value)?;
            }
            Value::Dict(std::rc::Rc::new(sorted_dict))
        }
        Value::List(items) => {
            let items: Outcome<Vec<Value>> = items.items.iter().map(|item| in_key_order(run, item)).collect();
            run.list(items?)?
        }
        _ => value.clone(),
    })
}

pub(super) fn abs(_: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("abs")?;
    match (value, value.as_int().map(i128::checked_abs)) {
        (_, Some(Some(number))) => Ok(Value::Int(number)),
        (Value::Float(number), _) => Ok(Value::Float(number.abs())),
        (Value::Undefined(message), _) => fault(&**message),
        _ => fault(format!("bad operand type for abs(): '{}'", value.type_name())),
    }
}

pub(super) fn int(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [default, base] = args.bind("int", ["default", "base"], 0)?;
    let base = u32::try_from(integer("int", &base, 10)?).unwrap_or(1);
    if let Value::Undefined(message) = value {
        return fault(&**message);
    }
    let float = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            if let Some(number) = parse_int(text, base) {
                return Ok(Value::Int(number));
            }
            parse_float(text)
        }
        None => match value.as_int() {
            Some(number) => return Ok(Value::Int(number)),
            None => value.as_float(),
        },
    };
    match float {
        Some(number) if number.is_finite() && number.abs() < 1e38 => Ok(Value::Int(number.trunc() as i128)),
        Some(number) if number.is_finite() => fault("a number has too many digits"),
        Some(number) if number.is_infinite() && value.as_str().is_none() => {
            fault("cannot convert float infinity to integer")
        }
        _ => Ok(default.unwrap_or(Value::Int(0))),
    }
}

pub(super) fn float(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [default] = args.bind("float", ["default"], 0)?;
    if let Value::Undefined(message) = value {
        return fault(&**message);
    }
    let number = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            parse_float(text)
        }
        None => value.as_float(),
    };
    Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

pub(super) fn round(_: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"], 0)?;
    let precision = integer("round", &precision, 0)?.clamp(-400, 400) as i32;
    let method = method.as_ref().and_then(Value::as_str).map_or("common", |method| method);
    let Some(number) = value.as_float() else {
        return match value {
            Value::Undefined(message) => fault(&**message),
            _ => fault(format!("type {} doesn't define __round__ method", value.type_name())),
        };
    };
    match method {
        "common" => match value.as_int() {
            Some(number) if precision >= 0 => Ok(Value::Int(number)),
            Some(number) => {
                let Some(unit) = 10i128.checked_pow(precision.unsigned_abs()) else {
                    return Ok(Value::Int(0));
                };
                let rest = number.rem_euclid(unit);
                // Half goes to the even multiple.
                let up = match rest.cmp(&(unit - rest)) {
                    Ordering::Less => false,
                    Ordering::Equal => number.div_euclid(unit) % 2 != 0,
                    Ordering::Greater => true,
                };
                let rounded = if up { number.checked_add(unit - rest) } else { number.checked_sub(rest) };
                rounded.map_or_else(|| fault("a number has too many digits"), |number| Ok(Value::Int(number)))
            }
            None => Ok(Value::Float(round_float(number, precision))),
        },
        "ceil" | "floor" => {
            let unit = 10f64.powi(precision);
            let scaled = number * unit;
            let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Value::Float(whole / unit))
        }
        _ => fault("method must be common, ceil or floor"),
    }
}

/// Python's `round(number, precision)`: the nearest, and of two the even one, of the exact value.
fn round_float(number: f64, precision: i32) -> f64 {
    if !number.is_finite() {
        return number;
    }
    match usize::try_from(precision) {
        Ok(digits) if digits > 22 => number,
        Ok(digits) => format!("{number:.digits$}").parse().unwrap_or(number),
        Err(_) => {
            let unit = 10f64.powi(-precision);
            let rounded = (number / unit).round_ties_even() * unit;
            if rounded == 0.0 { 0.0f64.copysign(number) } else { rounded }
        }
    }
}

pub(super) fn filesizeformat(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [binary] = args.bind("filesizeformat", ["binary"], 0)?;
    let binary = is_set(&binary);
    let number = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            parse_float(text)
        }
        None => value.as_float(),
    };
    let Some(bytes) = number else {
        let shown = text::repr(run, value)?;
        return fault(format!("could not convert to float: {shown}"));
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok(Value::str("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::str(format!("{} Bytes", bytes.trunc())));
    }
    let mut shown = String::new();
    let mut unit = base;
    for prefix in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        unit *= base;
        let prefix = if binary { format!("{}i", prefix.to_ascii_uppercase()) } else { prefix.to_owned() };
        shown = format!("{:.1} {prefix}B", base * bytes / unit);
        if bytes < unit {
            break;
        }
    }
    Ok(Value::str(shown))
}
