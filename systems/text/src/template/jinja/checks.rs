//! Jinja's tests, the right side of `is`.

use super::args::Args;
use super::ast::Comparison;
use super::containers::{is_iterable, is_sequence};
use super::fault::{Outcome, fault};
use super::interpreter::Check;
use super::numbers::remainder;
use super::operators::{compare, contains, same};
use super::python::is_cased;
use super::text;
use super::value::{Value, unsupported};

macro_rules! checks {
    ($($holds:expr, [$($name:literal),+];)+) => {
        &[$($(Check { name: $name, apply: $holds },)+)+]
    };
}

/// Every test.
pub(super) const CHECKS: &[Check] = checks! {
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
    |run, value, args| plain(args, value.as_str().is_some_and(|name| run.environment.filter_named(name).is_some())), ["filter"];
    |run, value, args| plain(args, value.as_str().is_some_and(|name| run.environment.check_named(name).is_some())), ["test"];
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

/// Returns the value that a test compares with.
fn other(args: Args) -> Outcome<Value> {
    let [other] = args.bind("test", ["other"], 1)?;
    Ok(other.unwrap_or(Value::None))
}

/// Returns the remainder of a division, with the divisor's sign.
fn rest(value: &Value, divisor: &Value) -> Outcome<f64> {
    match (value.as_int(), divisor.as_int()) {
        (Some(_), Some(0)) => return fault("integer division or modulo by zero"),
        (Some(a), Some(b)) => return Ok(remainder(a, b).unwrap_or_default() as f64),
        _ => {}
    }
    match (value.as_float(), divisor.as_float()) {
        (Some(_), Some(0.0)) => fault("float modulo by zero"),
        (Some(a), Some(b)) => Ok((a % b + b) % b),
        // Python formats the text with the number. The resulting text is equal to no number.
        _ if value.as_str().is_some() => fault("not all arguments converted during string formatting"),
        _ => Err(unsupported("%", value, divisor)),
    }
}

fn is_callable(value: &Value) -> bool {
    matches!(value, Value::Callable(_) | Value::Loop(_) | Value::Undefined(_))
}
