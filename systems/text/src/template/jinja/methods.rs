//! Methods of Python's values that a template may call.

use super::calls::{Args, call_object};
use super::interpreter::Interpreter;
use super::numbers::slice_indices;
use super::python::{self, is_space};
use super::value::Value;
use super::{Outcome, checks, fault, format, operators, text};
use std::ops::Range;

/// Methods of text. Those in [`MISSING`] exist in Python, and are refused when they are called.
const OF_TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
const MISSING: &[&str] = &["encode", "maketrans", "translate"];
const OF_DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
const OF_LIST: &[&str] = &["copy", "count", "index"];
const OF_TUPLE: &[&str] = &["count", "index"];
const OF_INT: &[&str] = &["bit_length", "conjugate", "is_integer"];
const OF_FLOAT: &[&str] = &["conjugate", "is_integer"];
/// Methods that change a value, which the sandbox forbids.
const CHANGE_DICT: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];
const CHANGE_LIST: &[&str] = &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];

/// Whether a value has this method, and it may be called.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    let names = match value {
        Value::Str(_) | Value::Markup(_) => return OF_TEXT.contains(&name) || MISSING.contains(&name),
        Value::Dict(_) => OF_DICT,
        Value::List(_) => OF_LIST,
        Value::Tuple(_) | Value::Range(_) => OF_TUPLE,
        Value::Int(_) | Value::Bool(_) => OF_INT,
        Value::Float(_) => OF_FLOAT,
        _ => return false,
    };
    names.contains(&name)
}

/// Whether this method would change a value.
pub(super) fn changes(value: &Value, name: &str) -> bool {
    match value {
        Value::Dict(_) => CHANGE_DICT.contains(&name),
        Value::List(_) => CHANGE_LIST.contains(&name),
        _ => false,
    }
}

pub(super) fn call(run: &mut Interpreter<'_>, receiver: &Value, name: &str, args: Args) -> Outcome<Value> {
    match receiver {
        Value::Str(text) | Value::Markup(text) => of_text(run, text, name, args),
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = args.bind("get", ["key", "default"], 1)?;
                let key = key.unwrap_or(Value::None);
                let place = run.key(&key)?;
                Ok(dict.get(&place).cloned().or(default).unwrap_or(Value::None))
            }
            "items" => {
                args.none(name)?;
                let pairs = run.pairs(dict)?;
                run.view("dict_items", pairs)
            }
            "keys" => {
                args.none(name)?;
                run.pay_items(dict.entries.len())?;
                run.view("dict_keys", dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            "values" => {
                args.none(name)?;
                run.pay_items(dict.entries.len())?;
                run.view("dict_values", dict.entries.iter().map(|(_, value)| value.clone()).collect())
            }
            "copy" => {
                args.none(name)?;
                Ok(receiver.clone())
            }
            _ => fault(format!("the method `{name}` of dict is not supported")),
        },
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => match name {
            "copy" => {
                args.none(name)?;
                Ok(receiver.clone())
            }
            "count" => {
                let [wanted] = args.bind(name, ["value"], 1)?;
                let wanted = wanted.unwrap_or(Value::None);
                let mut count = 0;
                for item in run.items(receiver)? {
                    count += i128::from(operators::equal(run, &item, &wanted)?);
                }
                Ok(Value::Int(count))
            }
            _ => {
                let [wanted, start, stop] = args.bind(name, ["value", "start", "stop"], 1)?;
                let wanted = wanted.unwrap_or(Value::None);
                let items = run.items(receiver)?;
                let bounds = [start.and_then(|v| v.as_int()), stop.and_then(|v| v.as_int()), None];
                for at in slice_indices(bounds, items.len()) {
                    if operators::equal(run, &items[at], &wanted)? {
                        return Ok(Value::Int(at as i128));
                    }
                }
                let shown = text::repr(run, &wanted)?;
                fault(format!("{shown} is not in {}", receiver.type_name()))
            }
        },
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
            match (name, receiver.as_int(), receiver.as_float()) {
                ("is_integer", Some(_), _) => Ok(Value::Bool(true)),
                ("is_integer", None, Some(number)) => {
                    Ok(Value::Bool(number.is_finite() && number.fract() == 0.0))
                }
                ("bit_length", Some(number), _) => {
                    Ok(Value::Int(i128::from(u128::BITS - number.unsigned_abs().leading_zeros())))
                }
                _ => Ok(receiver.clone()),
            }
        }
        _ => call_object(run, receiver, name, args),
    }
}

/// A text that has to be there.
fn string(what: &str, value: Option<Value>) -> Outcome<std::sync::Arc<str>> {
    match value {
        Some(Value::Undefined(message)) => fault(&*message),
        Some(value) => match value.as_str() {
            Some(text) => Ok(text.clone()),
            None => fault(format!("{what}() takes a str, not {}", value.type_name())),
        },
        None => fault(format!("{what}() misses an argument")),
    }
}

/// An integer, or what is taken without one.
fn integer(what: &str, value: Option<Value>, default: i128) -> Outcome<i128> {
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

fn of_text(run: &mut Interpreter<'_>, text: &str, name: &str, args: Args) -> Outcome<Value> {
    run.pay_bytes(text.len())?;
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = args.bind(name, ["chars"], 0)?;
            let characters = match characters {
                None | Some(Value::None) => None,
                given => Some(string(name, given)?),
            };
            let stripped = strip(run, text, characters.as_deref(), name != "rstrip", name != "lstrip")?;
            Ok(Value::str(stripped))
        }
        "removeprefix" => {
            let [prefix] = args.bind(name, ["prefix"], 1)?;
            let prefix = string(name, prefix)?;
            Ok(Value::str(text.strip_prefix(&*prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let [suffix] = args.bind(name, ["suffix"], 1)?;
            let suffix = string(name, suffix)?;
            Ok(Value::str(text.strip_suffix(&*suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(name, ["sep"], 1)?;
            let separator = string(name, separator)?;
            if separator.is_empty() {
                return fault("empty separator");
            }
            let parts = if name == "partition" {
                text.split_once(&*separator).map_or([text, "", ""], |(a, b)| [a, &separator, b])
            } else {
                text.rsplit_once(&*separator).map_or(["", "", text], |(a, b)| [a, &separator, b])
            };
            run.tuple(parts.map(Value::str).to_vec())
        }
        "split" | "rsplit" => split(run, text, name, args),
        "splitlines" => {
            let [ends] = args.bind(name, ["keepends"], 0)?;
            let lines = lines(run, text, ends.is_some_and(|ends| ends.is_true()))?;
            run.list(lines.into_iter().map(Value::str).collect())
        }
        "startswith" | "endswith" => {
            let [parts, start, stop] = args.bind(name, ["prefix", "start", "end"], 1)?;
            let within = within(text, start, stop)?;
            let parts = match parts {
                Some(Value::Tuple(parts)) => {
                    run.pay_items(parts.items.len())?;
                    parts.items.clone()
                }
                other => other.into_iter().collect(),
            };
            for part in parts {
                let part = string(name, Some(part))?;
                let Some(range) = &within else { continue };
                let stretch = &text[range.clone()];
                run.pay_bytes(part.len().min(stretch.len()))?;
                if if name == "startswith" { stretch.starts_with(&*part) } else { stretch.ends_with(&*part) }
                {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, stop] = args.bind(name, ["sub", "start", "end"], 1)?;
            let part = string(name, part)?;
            let within = within(text, start, stop)?;
            let stretch = within.clone().map(|range| &text[range]);
            if name == "count" {
                let count = match stretch {
                    Some(stretch) if part.is_empty() => stretch.chars().count() + 1,
                    Some(stretch) => stretch.matches(&*part).count(),
                    None => 0,
                };
                return Ok(Value::Int(count as i128));
            }
            let found =
                stretch.and_then(|s| if name.starts_with('r') { s.rfind(&*part) } else { s.find(&*part) });
            match (found, within) {
                (Some(at), Some(range)) => Ok(Value::Int(text[..range.start + at].chars().count() as i128)),
                _ if name.ends_with("find") => Ok(Value::Int(-1)),
                _ => fault("substring not found"),
            }
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (string(name, old)?, string(name, new)?);
            replace(run, text, &old, &new, integer(name, count, -1)?).map(Value::str)
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"], 1)?;
            let items = run.items(&items.unwrap_or(Value::None))?;
            let mut out = String::new();
            for (index, item) in items.iter().enumerate() {
                let Some(item) = item.as_str() else {
                    if let Value::Undefined(message) = item {
                        return fault(&**message);
                    }
                    let kind = item.type_name();
                    return fault(format!("sequence item {index}: expected str instance, {kind} found"));
                };
                let separator = if index > 0 { text } else { "" };
                run.pay(1)?;
                run.pay_bytes(separator.len() + item.len())?;
                out.push_str(separator);
                out.push_str(item);
            }
            Ok(Value::str(out))
        }
        "format" => format::braces(run, text, &args.positional, &args.named).map(Value::str),
        "format_map" => {
            let [map] = args.bind(name, ["mapping"], 1)?;
            let Some(Value::Dict(dict)) = map else { return fault("format_map() takes a mapping") };
            run.pay_items(dict.entries.len())?;
            let named: Vec<_> = dict
                .entries
                .iter()
                .filter_map(|(key, value)| Some((key.as_str()?.clone(), value.clone())))
                .collect();
            format::braces(run, text, &[], &named).map(Value::str)
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = args.bind(name, ["width", "fillchar"], 1)?;
            let width = integer(name, width, 0)?;
            let fill = match fill {
                None => ' ',
                given => {
                    let fill = string(name, given)?;
                    let mut characters = fill.chars();
                    match (characters.next(), characters.next()) {
                        (Some(fill), None) => fill,
                        _ => return fault("The fill character must be exactly one character long"),
                    }
                }
            };
            justify(run, text, name, width, fill).map(Value::str)
        }
        "zfill" => {
            let [width] = args.bind(name, ["width"], 1)?;
            let width = usize::try_from(integer(name, width, 0)?.max(0)).unwrap_or(usize::MAX);
            let missing = width.saturating_sub(text.chars().count());
            run.pay_bytes(missing)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            Ok(Value::str(format!("{sign}{}{digits}", "0".repeat(missing))))
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"], 0)?;
            let size = usize::try_from(integer(name, size, 8)?.max(0)).unwrap_or(usize::MAX);
            let (mut out, mut column) = (String::new(), 0usize);
            for character in text.chars() {
                if character == '\t' {
                    let spaces = column.checked_rem(size).map_or(0, |rest| size - rest);
                    run.pay_bytes(spaces)?;
                    out.push_str(&" ".repeat(spaces));
                    column += spaces;
                } else {
                    out.push(character);
                    column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
                }
            }
            Ok(Value::str(out))
        }
        _ => {
            if MISSING.contains(&name) {
                return fault(format!("the method `{name}` of str is not supported"));
            }
            args.none(name)?;
            Ok(match name {
                "lower" => Value::str(text.to_lowercase()),
                "upper" => Value::str(text.to_uppercase()),
                "casefold" => Value::str(casefold(text)),
                "capitalize" => Value::str(python::capitalize(text)),
                "swapcase" => Value::str(swapcase(text)),
                "title" => Value::str(title(text)),
                "isalpha" => Value::Bool(all(python::is_alpha)),
                "isalnum" => Value::Bool(all(python::is_alphanumeric)),
                "isdecimal" => Value::Bool(all(python::is_decimal)),
                "isdigit" => Value::Bool(all(python::is_digit)),
                "isnumeric" => Value::Bool(all(python::is_numeric)),
                "isspace" => Value::Bool(all(is_space)),
                "isascii" => Value::Bool(text.is_ascii()),
                "isprintable" => Value::Bool(text.chars().all(python::is_printable)),
                "islower" => Value::Bool(checks::is_cased(text, char::is_lowercase, char::is_uppercase)),
                "isupper" => Value::Bool(checks::is_cased(text, char::is_uppercase, char::is_lowercase)),
                "istitle" => Value::Bool(is_title(text)),
                "isidentifier" => Value::Bool(
                    all(|c| c == '_' || c.is_alphanumeric())
                        && text.starts_with(|c: char| c == '_' || python::is_alpha(c)),
                ),
                _ => return fault(format!("'str' object has no attribute '{name}'")),
            })
        }
    }
}

/// The bytes of a text between two positions in characters; `None` if they are out of order.
fn within(text: &str, start: Option<Value>, stop: Option<Value>) -> Outcome<Option<Range<usize>>> {
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

/// A text without white space, or characters of a set, at its ends.
pub(super) fn strip<'t>(
    run: &mut Interpreter<'_>,
    text: &'t str,
    characters: Option<&str>,
    left: bool,
    right: bool,
) -> Outcome<&'t str> {
    // Each character of the text is looked for in the set.
    run.pay(((characters.map_or(0, str::len) / 64) as u64).saturating_mul(text.len() as u64))?;
    let matches = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(matches) } else { text };
    Ok(if right { text.trim_end_matches(matches) } else { text })
}

/// The lines of a text, each paid for before there is room for it.
pub(super) fn lines<'t>(run: &mut Interpreter<'_>, text: &'t str, ends: bool) -> Outcome<Vec<&'t str>> {
    run.pay_items(text.chars().filter(|character| python::ends_line(*character)).count())?;
    Ok(python::lines(text, ends))
}

/// Python's `replace`; a negative count replaces all.
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

fn split(run: &mut Interpreter<'_>, text: &str, name: &str, args: Args) -> Outcome<Value> {
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
                    // What is left keeps its white space inside.
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
        // CPython's rounding: the odd one goes left where the width is odd too.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(format!("{}{text}{}", fill(left), fill(missing - left)))
}

/// What is the same as the upper case in lower case, but for the dotless i.
fn casefold(text: &str) -> String {
    let fold = |character: char| match character {
        'ı' => character.to_string(),
        _ => character.to_uppercase().flat_map(char::to_lowercase).collect(),
    };
    text.chars().map(fold).collect()
}

fn swapcase(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            if character.is_uppercase() {
                character.to_lowercase().collect::<Vec<_>>()
            } else if character.is_lowercase() {
                character.to_uppercase().collect()
            } else {
                vec![character]
            }
        })
        .collect()
}

fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase() || matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.push_str(&python::title(character));
        }
        inside = is_cased(character);
    }
    out
}

fn is_title(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for character in text.chars() {
        if character.is_uppercase() || matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ') {
            if inside {
                return false;
            }
            (inside, any) = (true, true);
        } else if character.is_lowercase() {
            if !inside {
                return false;
            }
        } else {
            inside = false;
        }
    }
    any
}
