//! Python's string operations that methods and filters share. They cost fuel.

use super::args::Args;
use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::python::{self, is_space};
use super::value::Value;
use std::ops::Range;
use std::sync::Arc;

/// Returns a string argument, which must be present.
pub(super) fn string(what: &str, value: Option<Value>) -> Outcome<Arc<str>> {
    match value {
        Some(Value::Undefined(message)) => fault(&*message),
        Some(value) => match value.as_str() {
            Some(text) => Ok(text.clone()),
            None => fault(format!("{what}() takes a str, not {}", value.type_name())),
        },
        None => fault(format!("{what}() is missing an argument")),
    }
}

/// Returns an integer argument, or `default` if it is missing.
pub(super) fn integer(what: &str, value: Option<Value>, default: i128) -> Outcome<i128> {
    match value {
        None => Ok(default),
        Some(value) => match value.as_int() {
            Some(number) => Ok(number),
            None => {
                fault(format!("'{}' object cannot be interpreted as an integer ({what})", value.type_name()))
            }
        },
    }
}

/// Returns the byte range between two positions in characters, or `None` if the positions are out of order.
pub(super) fn within(text: &str, start: Option<Value>, stop: Option<Value>) -> Outcome<Option<Range<usize>>> {
    let number = |value: Option<Value>| match value {
        None | Some(Value::None) => Ok(None),
        given => integer("position", given, 0).map(Some),
    };
    let (start, stop) = (number(start)?, number(stop)?);
    if start.is_none() && stop.is_none() {
        return Ok(Some(0..text.len()));
    }
    let length = text.chars().count() as i128;
    let place = |position: i128| if position < 0 { (position + length).max(0) } else { position };
    let (start, stop) = (place(start.unwrap_or(0)), place(stop.unwrap_or(length)).min(length));
    if start > stop {
        return Ok(None);
    }
    let byte = |position: i128| {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        text.char_indices().nth(position).map_or(text.len(), |(at, _)| at)
    };
    Ok(Some(byte(start)..byte(stop)))
}

/// Strips white space, or the characters of a set, from the ends of a text.
pub(super) fn strip<'t>(
    run: &mut Interpreter<'_>,
    text: &'t str,
    characters: Option<&str>,
    left: bool,
    right: bool,
) -> Outcome<&'t str> {
    // Each character of the text is searched for in the set.
    run.pay(((characters.map_or(0, str::len) / 64) as u64).saturating_mul(text.len() as u64))?;
    let matches = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(matches) } else { text };
    Ok(if right { text.trim_end_matches(matches) } else { text })
}

/// Returns the lines of a text. Fuel for them is taken before they are allocated.
pub(super) fn lines<'t>(run: &mut Interpreter<'_>, text: &'t str, ends: bool) -> Outcome<Vec<&'t str>> {
    run.pay_items(text.chars().filter(|character| python::ends_line(*character)).count())?;
    Ok(python::lines(text, ends))
}

/// Python's `replace`. A negative count replaces all occurrences.
pub(super) fn replace(
    run: &mut Interpreter<'_>,
    text: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Outcome<String> {
    let limit = if count < 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) };
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).take(limit).count() };
    let longer = found.min(limit).saturating_mul(new.len().saturating_sub(old.len()));
    run.pay_bytes(text.len().saturating_add(longer))?;
    Ok(text.replacen(old, new, limit))
}

pub(super) fn split(run: &mut Interpreter<'_>, text: &str, name: &str, args: Args) -> Outcome<Value> {
    let [separator, most] = args.bind(name, ["sep", "maxsplit"], 0)?;
    let most = integer(name, most, -1)?;
    let most = if most < 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
    let from_right = name == "rsplit";
    let mut parts: Vec<&str> = Vec::new();
    match separator {
        None | Some(Value::None) => {
            let trim = |text: &'_ str| {
                text.len()
                    - if from_right {
                        text.trim_end_matches(is_space).len()
                    } else {
                        text.trim_start_matches(is_space).len()
                    }
            };
            let mut rest = text;
            loop {
                run.pay(1)?;
                let blank = trim(rest);
                rest = if from_right { &rest[..rest.len() - blank] } else { &rest[blank..] };
                if rest.is_empty() {
                    break;
                }
                if parts.len() == most {
                    // The rest keeps its inner white space.
                    parts.push(rest);
                    break;
                }
                let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                match cut {
                    None => {
                        parts.push(rest);
                        break;
                    }
                    Some(at) if from_right => {
                        let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                        parts.push(&rest[at + width..]);
                        rest = &rest[..at + width];
                    }
                    Some(at) => {
                        parts.push(&rest[..at]);
                        rest = &rest[at..];
                    }
                }
            }
        }
        given => {
            let separator = string(name, given)?;
            if separator.is_empty() {
                return fault("empty separator");
            }
            let limit = most.saturating_add(1);
            if from_right {
                for part in text.rsplitn(limit, &*separator) {
                    run.pay(1)?;
                    parts.push(part);
                }
            } else {
                for part in text.splitn(limit, &*separator) {
                    run.pay(1)?;
                    parts.push(part);
                }
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    run.list(parts.into_iter().map(Value::str).collect())
}

/// `center`, `ljust` and `rjust`.
pub(super) fn justify(
    run: &mut Interpreter<'_>,
    text: &str,
    how: &str,
    width: i128,
    fill: char,
) -> Outcome<String> {
    let length = text.chars().count();
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(length);
    run.pay_bytes(missing.saturating_mul(fill.len_utf8()))?;
    let left = match how {
        "ljust" => 0,
        "rjust" => missing,
        // CPython's rounding: an odd space goes left if the width is odd too.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(format!("{}{text}{}", fill(left), fill(missing - left)))
}
