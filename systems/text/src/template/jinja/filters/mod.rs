//! Jinja's filters. What they do is `jinja2/filters.py` 3.1; `tojson` is Hugging Face's.

mod sequences;
mod texts;

use super::calls::{self, Args};
use super::interpreter::Interpreter;
use super::value::Value;
use super::{Outcome, fault, json, operators};
use std::cmp::Ordering;

/// A filter by its name.
pub(super) struct Filter {
    name: &'static str,
    pub(super) apply: fn(&mut Interpreter<'_>, &Value, Args) -> Outcome<Value>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

pub(super) fn find(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

macro_rules! filters {
    ($($name:literal => $apply:expr,)+) => { &[$(Filter { name: $name, apply: $apply },)+] };
}

const FILTERS: &[Filter] = filters! {
    "abs" => texts::abs,
    "attr" => sequences::attr,
    "batch" => sequences::batch,
    "capitalize" => texts::capitalize,
    "center" => texts::center,
    "count" => sequences::length,
    "d" => sequences::default,
    "default" => sequences::default,
    "dictsort" => sequences::dictsort,
    "e" => texts::escape,
    "escape" => texts::escape,
    "filesizeformat" => texts::filesizeformat,
    "first" => sequences::first,
    "float" => texts::float,
    "forceescape" => texts::forceescape,
    "format" => texts::format,
    "groupby" => sequences::groupby,
    "indent" => texts::indent,
    "int" => texts::int,
    "items" => sequences::items,
    "join" => sequences::join,
    "last" => sequences::last,
    "length" => sequences::length,
    "list" => sequences::list,
    "lower" => texts::lower,
    "map" => sequences::map,
    "max" => |run, value, args| sequences::extreme(run, value, args, Ordering::Greater),
    "min" => |run, value, args| sequences::extreme(run, value, args, Ordering::Less),
    "pprint" => texts::pprint,
    "random" => |_, _, _| fault("the filter `random` is not supported: it gives another text each time"),
    "reject" => |run, value, args| sequences::select(run, value, args, false, false),
    "rejectattr" => |run, value, args| sequences::select(run, value, args, true, false),
    "replace" => texts::replace,
    "reverse" => sequences::reverse,
    "round" => texts::round,
    "safe" => texts::safe,
    "select" => |run, value, args| sequences::select(run, value, args, false, true),
    "selectattr" => |run, value, args| sequences::select(run, value, args, true, true),
    "slice" => sequences::slice,
    "sort" => sequences::sort,
    "string" => texts::string,
    "striptags" => texts::striptags,
    "sum" => sequences::sum,
    "title" => texts::title,
    "tojson" => json::tojson,
    "trim" => texts::trim,
    "truncate" => texts::truncate,
    "unique" => sequences::unique,
    "upper" => texts::upper,
    "urlencode" => texts::urlencode,
    "urlize" => |_, _, _| fault("the filter `urlize` is not supported: it makes HTML"),
    "wordcount" => texts::wordcount,
    "wordwrap" => texts::wordwrap,
    "xmlattr" => texts::xmlattr,
};

/// Items in the order of their keys; equal ones keep theirs. A merge sort of our own, since comparing can fail and need not be a
/// total order.
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

/// Text in lower case, and other values as they are.
fn without_case(run: &mut Interpreter<'_>, value: Value) -> Outcome<Value> {
    match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            Ok(Value::str(text.to_lowercase()))
        }
        None => Ok(value),
    }
}

/// The key of an item: what a path leads to, its case left out of account if asked.
fn key_of(
    run: &mut Interpreter<'_>,
    item: &Value,
    attribute: &Value,
    default: Option<&Value>,
    case_sensitive: bool,
) -> Outcome<Value> {
    let key = calls::path(run, item, attribute, default)?;
    if case_sensitive { Ok(key) } else { without_case(run, key) }
}

fn is_set(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}

/// An integer argument.
fn integer(what: &str, value: &Option<Value>, default: i128) -> Outcome<i128> {
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
