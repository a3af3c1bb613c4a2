//! Filters and methods in which minijinja and its Python compatibility differ from Jinja2 in Python.

use minijinja::formatting::{self, FormatStyle};
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

/// Bytes read or written for one unit of fuel.
const BYTES_PER_FUEL: u64 = 64;

/// White space as Python's `str.isspace` has it, which counts the information separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// `trim`: of anything that can be text.
fn trim(state: &State, value: &Value, characters: Option<&str>) -> Result<String, Error> {
    let text = values::text(state, value)?;
    pay_for_strip(state, &text, characters)?;
    Ok(strip(&text, characters, true, true).to_owned())
}

/// Each character of a text is looked for in a set.
fn pay_for_strip(state: &State, text: &str, characters: Option<&str>) -> Result<(), Error> {
    let set = characters.map_or(0, str::len) as u64;
    state.consume_fuel((set / BYTES_PER_FUEL).saturating_mul(text.len() as u64))
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
    let result =
        match name {
            "strip" | "lstrip" | "rstrip" => from_args::<(Option<&str>,)>(args).and_then(|(characters,)| {
                pay_for_strip(state, text, characters)?;
                Ok(Value::from(strip(text, characters, name != "rstrip", name != "lstrip")))
            }),
            "removeprefix" => from_args::<(&str,)>(args)
                .map(|(prefix,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
            "removesuffix" => from_args::<(&str,)>(args)
                .map(|(suffix,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
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
            "join" => join(state, text, args),
            "format" => format(state, text, args),
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
    state.consume_fuel(text.len().saturating_add(longer) as u64 / BYTES_PER_FUEL)?;
    Ok(Value::from(text.replacen(old, new, limit)))
}

/// `join`, paid for item by item: a few bytes of a template can name millions of long ones.
fn join(state: &State, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = from_args(args)?;
    let mut out = String::new();
    for (index, item) in items.try_iter()?.checked().enumerate() {
        let item = item?;
        let separator = if index > 0 { separator } else { "" };
        let length = separator.len() + item.as_str().map_or(0, str::len);
        state.consume_fuel(1 + length as u64 / BYTES_PER_FUEL)?;
        out.push_str(separator);
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&values::text(state, &item)?),
        }
    }
    Ok(Value::from(out))
}

/// `format`, paid for before the memory is taken: a field is as wide as the text says, or as its value is long.
fn format(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    let numbers =
        text.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    // What is no `u64` is more than there is fuel for.
    let widths = numbers.fold(0, |sum: u64, digits| sum.saturating_add(digits.parse().unwrap_or(u64::MAX)));
    let mut longest = 0;
    for arg in args {
        longest = longest.max(values::text(state, arg)?.len() as u64);
    }
    let fields = text.bytes().filter(|byte| *byte == b'{').count() as u64;
    let written = fields.saturating_mul(longest).saturating_add(widths);
    state.consume_fuel(written.saturating_add(text.len() as u64) / BYTES_PER_FUEL)?;
    Ok(formatting::format(FormatStyle::StrFormat, text, args)?.into())
}
