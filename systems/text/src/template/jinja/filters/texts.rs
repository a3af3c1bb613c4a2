//! Filters of text.

use super::super::args::Args;
use super::super::fault::{Outcome, fault};
use super::super::python::{self, is_space};
use super::super::value::{Dict, Value};
use super::super::{format as formatting, strings, text};
use super::inputs::{Run, integer, is_set, soft, sorted};
use std::rc::Rc;

pub(super) fn string(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("string")?;
    match value {
        Value::Markup(_) => Ok(value.clone()),
        _ => Ok(Value::Str(soft(run, value)?)),
    }
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
    Ok(Value::str(strings::strip(run, &text, characters.as_deref(), true, true)?))
}

pub(super) fn center(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [width] = args.bind("center", ["width"], 0)?;
    let text = soft(run, value)?;
    strings::justify(run, &text, "center", integer("center", &width, 80)?, ' ').map(Value::str)
}

pub(super) fn replace(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"], 2)?;
    let text = soft(run, value)?;
    let old = soft(run, &old.unwrap_or(Value::None))?;
    let new = soft(run, &new.unwrap_or(Value::None))?;
    let count = integer("replace", &count.filter(|count| !count.is_none()), -1)?;
    strings::replace(run, &text, &old, &new, count).map(Value::str)
}

pub(super) fn format(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let text = soft(run, value)?;
    let values = match (args.positional.is_empty(), args.named.is_empty()) {
        (false, false) => return fault("can't handle positional and keyword arguments at the same time"),
        (true, false) => {
            let mut dict = Dict::default();
            for (name, value) in args.named {
                run.insert(&mut dict, Value::Str(name), value)?;
            }
            Value::Dict(Rc::new(dict))
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
    let lines = strings::lines(run, &text, false)?;
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

/// Python's `textwrap.wrap`, for text without hyphens and tabs, which Python treats specially.
pub(super) fn wordwrap(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, wrap, hyphens] = args.bind("wordwrap", names, 0)?;
    let Some(text) = value.as_str() else {
        return fault(format!("wordwrap() takes a str, not {}", value.type_name()));
    };
    // Each word is held as a vector of characters.
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
    for paragraph in strings::lines(run, text, false)? {
        let wrapped = wrapped(paragraph, width, break_long);
        // A blank paragraph stays a line.
        if wrapped.is_empty() { lines.push(String::new()) } else { lines.extend(wrapped) }
    }
    run.pay_bytes(wrap.len().saturating_mul(lines.len()))?;
    Ok(Value::str(lines.join(&wrap)))
}

fn wrapped(paragraph: &str, width: usize, break_long: bool) -> Vec<String> {
    // Words and the spaces between them, in reverse order.
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

pub(super) fn pprint(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("pprint")?;
    let value = in_key_order(run, value)?;
    let shown = text::repr(run, &value)?;
    if shown.chars().count() > 80 {
        return fault("the filter `pprint` is not supported for values longer than a line");
    }
    Ok(Value::str(shown))
}

/// Returns a value with all dicts sorted by key.
fn in_key_order(run: Run<'_, '_>, value: &Value) -> Outcome<Value> {
    run.pay(1)?;
    Ok(match value {
        Value::Dict(dict) => {
            let mut sorted_dict = Dict::default();
            for (key, value) in sorted(run, dict.entries.clone(), |(key, _)| key.clone())? {
                let value = in_key_order(run, &value)?;
                run.insert(&mut sorted_dict, key, value)?;
            }
            Value::Dict(Rc::new(sorted_dict))
        }
        Value::List(items) => {
            let items: Outcome<Vec<Value>> = items.items.iter().map(|item| in_key_order(run, item)).collect();
            run.list(items?)?
        }
        _ => value.clone(),
    })
}
