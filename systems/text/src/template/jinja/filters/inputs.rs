//! Reads what filters need from values and arguments: text, numbers, flags, sort keys.

use super::super::fault::{Outcome, fault};
use super::super::interpreter::Interpreter;
use super::super::value::Value;
use super::super::{attributes, operators, text};
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) type Run<'a, 'p> = &'a mut Interpreter<'p>;

/// Returns the text of a value. It costs fuel.
pub(super) fn soft(run: Run<'_, '_>, value: &Value) -> Outcome<Arc<str>> {
    let text = text::text(run, value)?;
    run.pay_bytes(text.len())?;
    Ok(text)
}

pub(super) fn is_set(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}

/// Returns an integer argument, or `default` if it is missing.
pub(super) fn integer(what: &str, value: &Option<Value>, default: i128) -> Outcome<i128> {
    match value {
        None => Ok(default),
        Some(Value::Undefined(message)) => fault(&**message),
        Some(value) => match value.as_int() {
            Some(number) => Ok(number),
            None => {
                fault(format!("{what}: '{}' object cannot be interpreted as an integer", value.type_name()))
            }
        },
    }
}

/// Returns the sort key of an item: the value at a path, in lower case unless `case_sensitive`.
pub(super) fn key_of(
    run: &mut Interpreter<'_>,
    item: &Value,
    attribute: &Value,
    default: Option<&Value>,
    case_sensitive: bool,
) -> Outcome<Value> {
    let key = attributes::path(run, item, attribute, default)?;
    if case_sensitive { Ok(key) } else { without_case(run, key) }
}

/// Converts text to lower case and returns other values unchanged.
pub(super) fn without_case(run: &mut Interpreter<'_>, value: Value) -> Outcome<Value> {
    match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            Ok(Value::str(text.to_lowercase()))
        }
        None => Ok(value),
    }
}

/// Sorts items by their keys. The sort is stable. It is a merge sort implemented here, since a comparison can fail and
/// need not be a total order.
pub(super) fn sorted<T>(
    run: &mut Interpreter<'_>,
    items: Vec<T>,
    key: impl Fn(&T) -> Value,
) -> Outcome<Vec<T>> {
    let mut items: Vec<Option<(Value, T)>> = items.into_iter().map(|item| Some((key(&item), item))).collect();
    let mut width = 1;
    while width < items.len() {
        run.pay_items(items.len())?;
        let mut merged = Vec::with_capacity(items.len());
        for start in (0..items.len()).step_by(2 * width) {
            let middle = (start + width).min(items.len());
            let end = (start + 2 * width).min(items.len());
            let (mut left, mut right) = (start, middle);
            while left < middle || right < end {
                let take_right = match (
                    items.get(left).filter(|_| left < middle),
                    items.get(right).filter(|_| right < end),
                ) {
                    (Some(Some((a, _))), Some(Some((b, _)))) => {
                        operators::order(run, b, a, "<")? == Some(Ordering::Less)
                    }
                    (None, _) => true,
                    _ => false,
                };
                let from = if take_right { &mut right } else { &mut left };
                merged.push(items[*from].take());
                *from += 1;
            }
        }
        items = merged;
        width *= 2;
    }
    Ok(items.into_iter().flatten().map(|(_, item)| item).collect())
}
