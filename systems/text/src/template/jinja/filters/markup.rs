//! Filters of HTML and URLs.

use super::super::args::Args;
use super::super::fault::{Outcome, fault};
use super::super::python::is_space;
use super::super::value::Value;
use super::super::{containers, text};
use super::inputs::{Run, soft};

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
    // A word takes 16 bytes here and, with its separator, at least two bytes of the text.
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

/// Quotes text for a URL. Bytes that are not letters, digits or one of `_.-~` become hexadecimal, except `/` outside of
/// a query. In a query a space becomes `+`.
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
        _ if !containers::is_iterable(value) => {
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
