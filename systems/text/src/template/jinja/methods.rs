//! Methods of Python's values that a template may call.

use super::args::Args;
use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::method_names::MISSING;
use super::numbers::slice_indices;
use super::python::{self, is_space};
use super::strings::{integer, justify, lines, replace, split, string, strip, within};
use super::value::Value;
use super::{format, operators, text};

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
        _ => fault(format!("'{}' object has no attribute '{name}'", receiver.type_name())),
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
                "casefold" => Value::str(python::casefold(text)),
                "capitalize" => Value::str(python::capitalize(text)),
                "swapcase" => Value::str(python::swapcase(text)),
                "title" => Value::str(python::title_words(text)),
                "isalpha" => Value::Bool(all(python::is_alpha)),
                "isalnum" => Value::Bool(all(python::is_alphanumeric)),
                "isdecimal" => Value::Bool(all(python::is_decimal)),
                "isdigit" => Value::Bool(all(python::is_digit)),
                "isnumeric" => Value::Bool(all(python::is_numeric)),
                "isspace" => Value::Bool(all(is_space)),
                "isascii" => Value::Bool(text.is_ascii()),
                "isprintable" => Value::Bool(text.chars().all(python::is_printable)),
                "islower" => Value::Bool(python::is_cased(text, char::is_lowercase, char::is_uppercase)),
                "isupper" => Value::Bool(python::is_cased(text, char::is_uppercase, char::is_lowercase)),
                "istitle" => Value::Bool(python::is_title(text)),
                "isidentifier" => Value::Bool(
                    all(|c| c == '_' || c.is_alphanumeric())
                        && text.starts_with(|c: char| c == '_' || python::is_alpha(c)),
                ),
                _ => return fault(format!("'str' object has no attribute '{name}'")),
            })
        }
    }
}
