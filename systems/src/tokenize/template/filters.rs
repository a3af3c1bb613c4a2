//! Filters and methods in which minijinja and its Python compatibility differ from Jinja2 in Python.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{json, values};

/// Adds them to an environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", trim);
    environment.set_unknown_method_callback(method);
}

/// White space as Python's `str.isspace` has it, which counts the information separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// `trim`: of anything that can be text.
fn trim(state: &State, value: &Value, characters: Option<&str>) -> Result<String, Error> {
    let text = values::text(state, value)?;
    Ok(strip(&text, characters, true, true).to_owned())
}

fn strip<'t>(text: &'t str, characters: Option<&str>, left: bool, right: bool) -> &'t str {
    let matches = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(matches) } else { text };
    if right { text.trim_end_matches(matches) } else { text }
}

/// Methods of Python's strings: those that are missing or differ, then minijinja's own.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = string_method(state, text, name, args)
    {
        return result;
    }
    unknown_method_callback(state, value, name, args)
}

fn string_method(state: &State, text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let result = match name {
        "strip" | "lstrip" | "rstrip" => from_args::<(Option<&str>,)>(args)
            .map(|(characters,)| Value::from(strip(text, characters, name != "rstrip", name != "lstrip"))),
        "removeprefix" => {
            from_args::<(&str,)>(args).map(|(prefix,)| Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            from_args::<(&str,)>(args).map(|(suffix,)| Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => from_args::<(&str,)>(args).and_then(|(separator,)| {
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let parts = if name == "partition" {
                text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b])
            } else {
                text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b])
            };
            Ok(Value::from(parts.map(Value::from).to_vec()))
        }),
        "replace" => replace(state, text, args),
        _ => return None,
    };
    Some(result)
}

/// `replace`, paid for before the memory is taken: each use can make a text many times longer.
fn replace(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let found = text.matches(old).take(limit).count();
    let longer = found.saturating_mul(new.len().saturating_sub(old.len()));
    state.consume_fuel(text.len().saturating_add(longer) as u64 / 64)?;
    Ok(Value::from(text.replacen(old, new, limit)))
}
