//! Operators on values, as Python defines them.

use super::ast::{Comparison, Operator};
use super::fault::{Outcome, fault};
use super::interpreter::Interpreter;
use super::numbers::{floor_divide, power, remainder, slice_bounds, slice_indices};
use super::value::{Range, Value, unsupported};
use super::{format, text};
use std::cmp::Ordering;
use std::rc::Rc;

pub(super) fn negative(value: &Value) -> Outcome<Value> {
    match value {
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Undefined(message) => fault(&**message),
        _ => match value.as_int().map(i128::checked_neg) {
            Some(Some(number)) => Ok(Value::Int(number)),
            Some(None) => fault("a number has too many digits"),
            None => fault(format!("bad operand type for unary -: '{}'", value.type_name())),
        },
    }
}

pub(super) fn positive(value: &Value) -> Outcome<Value> {
    match value {
        Value::Float(number) => Ok(Value::Float(*number)),
        Value::Undefined(message) => fault(&**message),
        _ => match value.as_int() {
            Some(number) => Ok(Value::Int(number)),
            None => fault(format!("bad operand type for unary +: '{}'", value.type_name())),
        },
    }
}

pub(super) fn arithmetic(
    run: &mut Interpreter<'_>,
    operator: Operator,
    left: &Value,
    right: &Value,
) -> Outcome<Value> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(operator, a, b);
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return floats(operator, a, b);
    }
    match (operator, left, right) {
        (Operator::Add, Value::Str(a), Value::Str(b)) => {
            run.pay_bytes(a.len() + b.len())?;
            Ok(Value::str([&**a, &**b].concat()))
        }
        (Operator::Add, Value::Str(_) | Value::Markup(_), Value::Str(_) | Value::Markup(_)) => {
            // Text that is joined to markup is escaped.
            let marked = |value: &Value| match value {
                Value::Str(text) => text::escape(text),
                other => other.as_str().map(ToString::to_string).unwrap_or_default(),
            };
            let joined = marked(left) + &marked(right);
            run.pay_bytes(joined.len())?;
            Ok(Value::Markup(joined.into()))
        }
        (Operator::Add, Value::List(a), Value::List(b)) => {
            run.pay_items(a.items.len() + b.items.len())?;
            run.list([&a.items[..], &b.items[..]].concat())
        }
        (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
            run.pay_items(a.items.len() + b.items.len())?;
            run.tuple([&a.items[..], &b.items[..]].concat())
        }
        (Operator::Multiply, items, times) if times.as_int().is_some() => repeat(run, items, times),
        (Operator::Multiply, times, items) if times.as_int().is_some() => repeat(run, items, times),
        (Operator::Modulo, text, values) if text.as_str().is_some() => {
            let text = text.as_str().map(|text| &**text).unwrap_or_default();
            format::percent(run, text, values).map(Value::str)
        }
        _ => Err(unsupported(
            if operator == Operator::Power { "** or pow()" } else { operator.symbol() },
            left,
            right,
        )),
    }
}

fn repeat(run: &mut Interpreter<'_>, items: &Value, times: &Value) -> Outcome<Value> {
    let count = usize::try_from(times.as_int().unwrap_or_default().max(0)).unwrap_or(usize::MAX);
    match items {
        Value::Str(text) | Value::Markup(text) => {
            run.pay_bytes(text.len().saturating_mul(count))?;
            Ok(Value::str(text.repeat(if text.is_empty() { 0 } else { count })))
        }
        Value::List(list) | Value::Tuple(list) => {
            let whole = list.items.len().saturating_mul(count);
            run.pay_items(whole)?;
            let count = if list.items.is_empty() { 0 } else { count };
            let mut repeated = Vec::with_capacity(whole);
            for _ in 0..count {
                repeated.extend_from_slice(&list.items);
            }
            if matches!(items, Value::List(_)) { run.list(repeated) } else { run.tuple(repeated) }
        }
        Value::Undefined(message) => fault(&**message),
        _ => Err(unsupported("*", items, times)),
    }
}

fn integers(operator: Operator, a: i128, b: i128) -> Outcome<Value> {
    let number = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => {
            if b == 0 {
                return fault("division by zero");
            }
            return Ok(Value::Float(a as f64 / b as f64));
        }
        Operator::FloorDivide | Operator::Modulo if b == 0 => {
            return fault("integer division or modulo by zero");
        }
        Operator::FloorDivide => floor_divide(a, b),
        Operator::Modulo => remainder(a, b),
        Operator::Power => return power(a, b),
    };
    number.map_or_else(|| fault("a number has too many digits"), |number| Ok(Value::Int(number)))
}

fn floats(operator: Operator, a: f64, b: f64) -> Outcome<Value> {
    let floor_mod = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
            rest + b
        } else if rest == 0.0 {
            0.0f64.copysign(b)
        } else {
            rest
        }
    };
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide | Operator::FloorDivide | Operator::Modulo if b == 0.0 => {
            return fault("float division by zero");
        }
        Operator::Divide => a / b,
        Operator::FloorDivide => ((a - floor_mod(a, b)) / b).round(),
        Operator::Modulo => floor_mod(a, b),
        Operator::Power => {
            if a == 0.0 && b < 0.0 {
                return fault("0.0 cannot be raised to a negative power");
            }
            a.powf(b)
        }
    }))
}

/// Returns true if two values are equal.
pub(super) fn equal(run: &mut Interpreter<'_>, left: &Value, right: &Value) -> Outcome<bool> {
    run.pay(1)?;
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return Ok(a == b);
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return Ok(a == b);
    }
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        run.pay_bytes(a.len().min(b.len()))?;
        return Ok(a == b);
    }
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(run, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                let place = run.key(key)?;
                match b.get(&place) {
                    Some(other) if equal(run, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            a.len() == b.len() && (a.len() == 0 || a.start == b.start && (a.len() == 1 || a.step == b.step))
        }
        _ => same(left, right),
    })
}

/// Returns true if two values are the same object.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::View(_, a), Value::View(_, b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Iterator(a), Value::Iterator(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
        (Value::Callable(a), Value::Callable(b)) => Rc::ptr_eq(a, b),
        _ => false,
    }
}

/// Compares two values. Returns `None` if one is NaN.
///
/// # Errors
/// The values have no order.
pub(super) fn order(
    run: &mut Interpreter<'_>,
    left: &Value,
    right: &Value,
    symbol: &str,
) -> Outcome<Option<Ordering>> {
    run.pay(1)?;
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return Ok(a.partial_cmp(&b));
    }
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        run.pay_bytes(a.len().min(b.len()))?;
        return Ok(Some(a.cmp(b)));
    }
    match (left, right) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(run, a, b)? {
                    return order(run, a, b, symbol);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        (Value::Undefined(message), _) | (_, Value::Undefined(message)) => fault(&**message),
        _ => fault(format!(
            "'{symbol}' not supported between instances of '{}' and '{}'",
            left.type_name(),
            right.type_name()
        )),
    }
}

pub(super) fn compare(
    run: &mut Interpreter<'_>,
    comparison: Comparison,
    left: &Value,
    right: &Value,
) -> Outcome<bool> {
    Ok(match comparison {
        Comparison::Equal => equal(run, left, right)?,
        Comparison::NotEqual => !equal(run, left, right)?,
        Comparison::In => contains(run, right, left)?,
        Comparison::NotIn => !contains(run, right, left)?,
        _ => {
            let order = order(run, left, right, comparison.symbol())?;
            match comparison {
                Comparison::Less => order == Some(Ordering::Less),
                Comparison::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Comparison::Greater => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }
        }
    })
}

/// `item in container`.
pub(super) fn contains(run: &mut Interpreter<'_>, container: &Value, item: &Value) -> Outcome<bool> {
    match container {
        Value::Str(text) | Value::Markup(text) => {
            let Some(part) = item.as_str() else {
                if let Value::Undefined(message) = item {
                    return fault(&**message);
                }
                let kind = item.type_name();
                return fault(format!("'in <string>' requires string as left operand, not {kind}"));
            };
            run.pay_bytes(text.len())?;
            Ok(text.contains(&**part))
        }
        Value::Dict(dict) => {
            let place = run.key(item)?;
            Ok(dict.get(&place).is_some())
        }
        Value::Range(range) => Ok(item.as_float().is_some_and(|number| {
            let index = (number - range.start as f64) / range.step as f64;
            index.fract() == 0.0 && index >= 0.0 && index < range.len() as f64
        })),
        Value::List(items) | Value::Tuple(items) | Value::View(_, items) => {
            for other in &items.items {
                if equal(run, other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Undefined(_) | Value::Iterator(_) => {
            for other in run.items(container)? {
                if equal(run, &other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => fault(format!("argument of type '{}' is not iterable", container.type_name())),
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(run: &mut Interpreter<'_>, value: &Value, bounds: &[Value; 3]) -> Outcome<Value> {
    let mut numbers = [None; 3];
    for (number, bound) in numbers.iter_mut().zip(bounds) {
        *number = match bound {
            Value::None => None,
            Value::Undefined(message) => return fault(&**message),
            _ => match bound.as_int() {
                Some(bound) => Some(bound),
                None => return fault("slice indices must be integers or None"),
            },
        };
    }
    if numbers[2] == Some(0) {
        return fault("slice step cannot be zero");
    }
    match value {
        Value::Str(text) | Value::Markup(text) => {
            run.pay_bytes(text.len().saturating_mul(4))?;
            let characters: Vec<char> = text.chars().collect();
            let picked: String = slice_indices(numbers, characters.len()).map(|at| characters[at]).collect();
            Ok(Value::str(picked))
        }
        Value::List(list) | Value::Tuple(list) => {
            run.pay_items(list.items.len())?;
            let picked = slice_indices(numbers, list.items.len()).map(|at| list.items[at].clone()).collect();
            if matches!(value, Value::List(_)) { run.list(picked) } else { run.tuple(picked) }
        }
        Value::Range(range) => {
            let [start, stop, _] = slice_bounds(numbers, range.len());
            let at = |index: i128| index.checked_mul(range.step)?.checked_add(range.start);
            let step = numbers[2].unwrap_or(1).checked_mul(range.step);
            match (at(start), at(stop), step) {
                (Some(start), Some(stop), Some(step)) => Ok(Value::Range(Range { start, stop, step })),
                _ => fault("a number has too many digits"),
            }
        }
        Value::Undefined(message) => fault(&**message),
        _ => fault(format!("'{}' object cannot be sliced", value.type_name())),
    }
}
