//! Filters of lists, dicts and iterators.

use super::super::args::Args;
use super::super::ast::Operator;
use super::super::fault::{Outcome, fault};
use super::super::value::Value;
use super::super::{attributes, method_names, operators, text};
use super::inputs::{Run, integer, is_set, key_of, sorted, without_case};
use std::cmp::Ordering;
use std::collections::HashSet;

pub(super) fn attr(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [name] = args.bind("attr", ["name"], 1)?;
    let Some(name) = name.as_ref().and_then(Value::as_str) else { return fault("attr() takes a name") };
    run.pay_bytes(name.len())?;
    match value {
        // `attr` finds attributes of the type only, not entries.
        Value::Dict(_) if !method_names::exists(value, name) => {
            Ok(Value::undefined(format!("'dict object' has no attribute '{name}'")))
        }
        _ => attributes::attribute(run, value, name),
    }
}

pub(super) fn default(_: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [default, boolean] = args.bind("default", ["default_value", "boolean"], 0)?;
    let replaced = value.is_undefined() || (is_set(&boolean) && !value.is_true());
    Ok(if replaced { default.unwrap_or_else(|| Value::str("")) } else { value.clone() })
}

pub(super) fn length(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("length")?;
    match text::length(run, value)? {
        Some(length) => Ok(Value::Int(length as i128)),
        None => fault(format!("object of type '{}' has no len()", value.type_name())),
    }
}

pub(super) fn list(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("list")?;
    let items = run.items(value)?;
    run.list(items)
}

pub(super) fn items(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("items")?;
    match value {
        Value::Undefined(_) => run.iterator(Vec::new()),
        Value::Dict(dict) => {
            let pairs = run.pairs(dict)?;
            run.iterator(pairs)
        }
        _ => fault("Can only get item pairs from a mapping."),
    }
}

pub(super) fn dictsort(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [case_sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let by_value = match by.as_ref().and_then(Value::as_str).map(|by| &**by) {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return fault("You can only sort by either \"key\" or \"value\""),
    };
    let Value::Dict(dict) = value else {
        return fault(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    let keep_case = is_set(&case_sensitive);
    let mut keyed = Vec::new();
    for ((key, value), pair) in dict.entries.iter().zip(run.pairs(dict)?) {
        let key = if by_value { value } else { key }.clone();
        keyed.push((if keep_case { key } else { without_case(run, key)? }, pair));
    }
    let keyed = in_order(run, keyed, is_set(&reverse), |(key, _)| key.clone())?;
    run.list(keyed.into_iter().map(|(_, pair)| pair).collect())
}

/// Sorts items. Equal items keep their order in reverse as well.
fn in_order<T>(
    run: Run<'_, '_>,
    mut items: Vec<T>,
    reverse: bool,
    key: impl Fn(&T) -> Value,
) -> Outcome<Vec<T>> {
    if reverse {
        items.reverse();
    }
    let mut sorted = sorted(run, items, key)?;
    if reverse {
        sorted.reverse();
    }
    Ok(sorted)
}

pub(super) fn sort(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [reverse, case_sensitive, attribute] =
        args.bind("sort", ["reverse", "case_sensitive", "attribute"], 0)?;
    let keep_case = is_set(&case_sensitive);
    let attributes: Vec<Value> = match attribute.as_ref().map(|attribute| (attribute, attribute.as_str())) {
        None => vec![Value::None],
        Some((_, Some(names))) => names.split(',').map(Value::str).collect(),
        Some((other, None)) => vec![other.clone()],
    };
    let mut keyed = Vec::new();
    for item in run.items(value)? {
        let mut keys = Vec::with_capacity(attributes.len());
        for attribute in &attributes {
            keys.push(key_of(run, &item, attribute, None, keep_case)?);
        }
        keyed.push((run.list(keys)?, item));
    }
    let keyed = in_order(run, keyed, is_set(&reverse), |(key, _)| key.clone())?;
    run.list(keyed.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn unique(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind("unique", ["case_sensitive", "attribute"], 0)?;
    let attribute = attribute.unwrap_or(Value::None);
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for item in run.items(value)? {
        let key = key_of(run, &item, &attribute, None, is_set(&case_sensitive))?;
        if seen.insert(run.key(&key)?) {
            kept.push(item);
        }
    }
    run.iterator(kept)
}

/// `min` and `max`: the first item that no other item exceeds.
pub(super) fn extreme(run: Run<'_, '_>, value: &Value, args: Args, beyond: Ordering) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind("min", ["case_sensitive", "attribute"], 0)?;
    let attribute = attribute.unwrap_or(Value::None);
    let symbol = if beyond == Ordering::Less { "<" } else { ">" };
    let mut best: Option<(Value, Value)> = None;
    for item in run.items(value)? {
        let key = key_of(run, &item, &attribute, None, is_set(&case_sensitive))?;
        let better = match &best {
            Some((best, _)) => operators::order(run, &key, best, symbol)? == Some(beyond),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
}

pub(super) fn groupby(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [attribute, default, case_sensitive] =
        args.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let attribute = attribute.unwrap_or(Value::None);
    let default = default.filter(|default| !default.is_none());
    let keep_case = is_set(&case_sensitive);
    let mut keyed = Vec::new();
    for item in run.items(value)? {
        keyed.push((key_of(run, &item, &attribute, default.as_ref(), keep_case)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted(run, keyed, |(key, _)| key.clone())? {
        match groups.last_mut() {
            Some((last, items)) if operators::equal(run, last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::with_capacity(groups.len());
    for (key, items) in groups {
        let key = match items.first() {
            Some(first) if !keep_case => attributes::path(run, first, &attribute, default.as_ref())?,
            _ => key,
        };
        let items = run.list(items)?;
        out.push(run.named_tuple(vec![key, items], &["grouper", "list"])?);
    }
    run.list(out)
}

pub(super) fn join(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"], 0)?;
    let separator = match separator {
        Some(separator) => text::text(run, &separator)?,
        None => "".into(),
    };
    let mut out = String::new();
    for (index, item) in run.items(value)?.into_iter().enumerate() {
        let item = match &attribute {
            Some(attribute) if !attribute.is_none() => attributes::path(run, &item, attribute, None)?,
            _ => item,
        };
        let item = text::text(run, &item)?;
        let separator = if index > 0 { &*separator } else { "" };
        run.pay(1)?;
        run.pay_bytes(separator.len() + item.len())?;
        out.push_str(separator);
        out.push_str(&item);
    }
    Ok(Value::str(out))
}

pub(super) fn first(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("first")?;
    let first = match value {
        Value::Iterator(items) => items.rest.borrow_mut().next(),
        Value::Str(text) | Value::Markup(text) => text.chars().next().map(|c| Value::str(String::from(c))),
        Value::List(items) | Value::Tuple(items) | Value::View(_, items) => items.items.first().cloned(),
        _ => run.items(value)?.into_iter().next(),
    };
    Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
}

pub(super) fn last(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("last")?;
    let last = match value {
        Value::Iterator(_) => return fault("'generator' object is not reversible"),
        Value::Str(text) | Value::Markup(text) => {
            text.chars().next_back().map(|c| Value::str(String::from(c)))
        }
        Value::List(items) | Value::Tuple(items) | Value::View(_, items) => items.items.last().cloned(),
        _ => run.items(value)?.pop(),
    };
    Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
}

pub(super) fn reverse(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("reverse")?;
    if let Some(text) = value.as_str() {
        run.pay_bytes(text.len())?;
        return Ok(Value::str(text.chars().rev().collect::<String>()));
    }
    let mut items = run.items(value)?;
    items.reverse();
    // An iterator has no reverse iterator, so the result is a list, as in Jinja2.
    if matches!(value, Value::Iterator(_)) { run.list(items) } else { run.iterator(items) }
}

pub(super) fn sum(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"], 0)?;
    let mut sum = start.unwrap_or(Value::Int(0));
    if sum.as_str().is_some() {
        return fault("sum() can't sum strings [use ''.join(seq) instead]");
    }
    for item in run.items(value)? {
        let item = match &attribute {
            Some(attribute) if !attribute.is_none() => attributes::path(run, &item, attribute, None)?,
            _ => item,
        };
        run.pay(1)?;
        sum = operators::arithmetic(run, Operator::Add, &sum, &item)?;
    }
    Ok(sum)
}

pub(super) fn batch(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [size, fill] = args.bind("batch", ["linecount", "fill_with"], 1)?;
    let size = integer("batch", &size, 0)?;
    let items = run.items(value)?;
    if size <= 0 {
        return fault("batch() needs a number of items above 0");
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut batches = Vec::new();
    for batch in items.chunks(size) {
        let mut batch = batch.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none()) {
            run.pay_items(size - batch.len())?;
            batch.resize(size, fill.clone());
        }
        batches.push(run.list(batch)?);
    }
    run.iterator(batches)
}

pub(super) fn slice(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [count, fill] = args.bind("slice", ["slices", "fill_with"], 1)?;
    let count = integer("slice", &count, 0)?;
    let items = run.items(value)?;
    if count == 0 {
        return fault("integer division or modulo by zero");
    }
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let (each, extra) =
        (items.len().checked_div(count).unwrap_or(0), items.len().checked_rem(count).unwrap_or(0));
    let mut rest = items.as_slice();
    let mut slices = Vec::new();
    for index in 0..count {
        let (slice, after) = rest.split_at((each + usize::from(index < extra)).min(rest.len()));
        rest = after;
        let mut slice = slice.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none() && index >= extra) {
            slice.push(fill.clone());
        }
        slices.push(run.list(slice)?);
    }
    run.iterator(slices)
}

/// Copies the arguments for one of many calls.
fn again(run: Run<'_, '_>, args: &Args) -> Outcome<Args> {
    run.pay_items(1 + args.positional.len() + args.named.len())?;
    Ok(Args { positional: args.positional.clone(), named: args.named.clone() })
}

pub(super) fn map(run: Run<'_, '_>, value: &Value, mut args: Args) -> Outcome<Value> {
    let mut out = Vec::new();
    if args.positional.is_empty() && args.named.iter().any(|(name, _)| &**name == "attribute") {
        let [attribute, default] = args.bind("map", ["attribute", "default"], 1)?;
        let attribute = attribute.unwrap_or(Value::None);
        let default = default.filter(|default| !default.is_none());
        for item in run.items(value)? {
            out.push(attributes::path(run, &item, &attribute, default.as_ref())?);
        }
        return run.iterator(out);
    }
    if args.positional.is_empty() {
        return fault("map requires a filter argument");
    }
    let name = args.positional.remove(0);
    let Some(filter) = name.as_str().and_then(|name| run.environment.filter_named(name)) else {
        let name = text::text(run, &name)?;
        return fault(format!("No filter named '{name}'."));
    };
    for item in run.items(value)? {
        let args = again(run, &args)?;
        out.push((filter.apply)(run, &item, args)?);
    }
    run.iterator(out)
}

/// `select`, `reject`, `selectattr` and `rejectattr`.
pub(super) fn select(
    run: Run<'_, '_>,
    value: &Value,
    mut args: Args,
    by_attribute: bool,
    wanted: bool,
) -> Outcome<Value> {
    if !value.is_true() {
        return run.iterator(Vec::new());
    }
    let attribute = match by_attribute {
        true if args.positional.is_empty() => return fault("Missing parameter for attribute name"),
        true => args.positional.remove(0),
        false => Value::None,
    };
    let check = if args.positional.is_empty() {
        None
    } else {
        let name = args.positional.remove(0);
        match name.as_str().and_then(|name| run.environment.check_named(name)) {
            Some(check) => Some(check),
            None => {
                let name = text::text(run, &name)?;
                return fault(format!("No test named '{name}'."));
            }
        }
    };
    let mut out = Vec::new();
    for item in run.items(value)? {
        run.pay(1)?;
        let subject = attributes::path(run, &item, &attribute, None)?;
        let holds = match check {
            Some(check) => {
                let args = again(run, &args)?;
                (check.apply)(run, &subject, args)?
            }
            None => subject.is_true(),
        };
        if holds == wanted {
            out.push(item);
        }
    }
    run.iterator(out)
}
