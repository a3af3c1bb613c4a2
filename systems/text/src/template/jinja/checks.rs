//! Jinja's tests: what `is` asks.

use super::ast::Comparison;
use super::calls::Args;
use super::filters;
use super::interpreter::Interpreter;
use super::numbers::remainder;
use super::operators::{compare, contains, same};
use super::value::Value;
use super::{Outcome, fault, text};

/// A test by its name.
pub(super) struct Check {
    name: &'static str,
    pub(super) holds: fn(&mut Interpreter<'_>, &Value, Args) -> Outcome<bool>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

pub(super) fn find(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.name == name)
}

macro_rules! checks {
    ($($holds:expr, [$($name:literal),+];)+) => {
        &[$($(Check { name: $name, holds: $holds },)+)+]
    };
}

const CHECKS: &[Check] = checks! {
    |_, value, args| plain(args, !value.is_undefined()), ["defined"];
    |_, value, args| plain(args, value.is_undefined()), ["undefined"];
    |_, value, args| plain(args, value.is_none()), ["none"];
    |_, value, args| plain(args, matches!(value, Value::Bool(_))), ["boolean"];
    |_, value, args| plain(args, matches!(value, Value::Bool(false))), ["false"];
    |_, value, args| plain(args, matches!(value, Value::Bool(true))), ["true"];
    |_, value, args| plain(args, matches!(value, Value::Int(_))), ["integer"];
    |_, value, args| plain(args, matches!(value, Value::Float(_))), ["float"];
    |_, value, args| plain(args, matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_))), ["number"];
    |_, value, args| plain(args, value.as_str().is_some()), ["string"];
    |_, value, args| plain(args, matches!(value, Value::Dict(_))), ["mapping"];
    |_, value, args| plain(args, is_sequence(value)), ["sequence"];
    |_, value, args| plain(args, is_iterable(value)), ["iterable"];
    |_, value, args| plain(args, is_callable(value)), ["callable"];
    |_, value, args| plain(args, matches!(value, Value::Markup(_))), ["escaped"];
    |_, value, args| plain(args, value.as_str().is_some_and(|name| filters::find(name).is_some())), ["filter"];
    |_, value, args| plain(args, value.as_str().is_some_and(|name| find(name).is_some())), ["test"];
    |run, value, args| { let text = text::text(run, value)?; plain(args, is_cased(&text, char::is_lowercase, char::is_uppercase)) }, ["lower"];
    |run, value, args| { let text = text::text(run, value)?; plain(args, is_cased(&text, char::is_uppercase, char::is_lowercase)) }, ["upper"];
    |_, value, args| plain(args, rest(value, &Value::Int(2))? == 1.0), ["odd"];
    |_, value, args| plain(args, rest(value, &Value::Int(2))? == 0.0), ["even"];
    |_, value, args| Ok(rest(value, &other(args)?)? == 0.0), ["divisibleby"];
    |_, value, args| Ok(same(value, &other(args)?)), ["sameas"];
    |run, value, args| contains(run, &other(args)?, value), ["in"];
    |run, value, args| compare(run, Comparison::Equal, value, &other(args)?), ["==", "eq", "equalto"];
    |run, value, args| compare(run, Comparison::NotEqual, value, &other(args)?), ["!=", "ne"];
    |run, value, args| compare(run, Comparison::Greater, value, &other(args)?), [">", "gt", "greaterthan"];
    |run, value, args| compare(run, Comparison::GreaterEqual, value, &other(args)?), [">=", "ge"];
    |run, value, args| compare(run, Comparison::Less, value, &other(args)?), ["<", "lt", "lessthan"];
    |run, value, args| compare(run, Comparison::LessEqual, value, &other(args)?), ["<=", "le"];
};

fn plain(args: Args, holds: bool) -> Outcome<bool> {
    args.none("test").map(|()| holds)
}

/// The value that a test compares with.
fn other(args: Args) -> Outcome<Value> {
    let [other] = args.bind("test", ["other"], 1)?;
    Ok(other.unwrap_or(Value::None))
}

/// The rest of a division.
fn rest(value: &Value, divisor: &Value) -> Outcome<f64> {
    match (value.as_int(), divisor.as_int()) {
        (Some(_), Some(0)) => return fault("integer division or modulo by zero"),
        (Some(a), Some(b)) => return Ok(remainder(a, b).unwrap_or_default() as f64),
        _ => {}
    }
    match (value.as_float(), divisor.as_float()) {
        (Some(_), Some(0.0)) => fault("float modulo by zero"),
        (Some(a), Some(b)) => Ok((a % b + b) % b),
        // Python formats the text with the number, and what comes of it equals none.
        _ if value.as_str().is_some() => fault("not all arguments converted during string formatting"),
        _ => Err(super::value::unsupported("%", value, divisor)),
    }
}

/// What has a length and items by index: also a dict, and what is undefined.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value,
        Value::Str(_)
            | Value::Markup(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Range(_)
            | Value::Undefined(_)
    )
}

pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value, Value::View(..) | Value::Iterator(_) | Value::Loop(_))
}

fn is_callable(value: &Value) -> bool {
    matches!(value, Value::Callable(_) | Value::Loop(_) | Value::Undefined(_))
}

/// Whether a text has letters of one case and none of the other.
pub(super) fn is_cased(text: &str, wanted: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    let title = |character: char| matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ');
    text.chars().any(wanted) && !text.chars().any(|character| other(character) || title(character))
}
