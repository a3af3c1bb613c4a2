//! Filters of numbers.

use super::super::args::Args;
use super::super::fault::{Outcome, fault};
use super::super::numbers::{parse_float, parse_int};
use super::super::text;
use super::super::value::Value;
use super::inputs::{Run, integer, is_set};
use std::cmp::Ordering;

pub(super) fn abs(_: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    args.none("abs")?;
    match (value, value.as_int().map(i128::checked_abs)) {
        (_, Some(Some(number))) => Ok(Value::Int(number)),
        (Value::Float(number), _) => Ok(Value::Float(number.abs())),
        (Value::Undefined(message), _) => fault(&**message),
        _ => fault(format!("bad operand type for abs(): '{}'", value.type_name())),
    }
}

pub(super) fn int(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [default, base] = args.bind("int", ["default", "base"], 0)?;
    let base = u32::try_from(integer("int", &base, 10)?).unwrap_or(1);
    if let Value::Undefined(message) = value {
        return fault(&**message);
    }
    let float = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            if let Some(number) = parse_int(text, base) {
                return Ok(Value::Int(number));
            }
            parse_float(text)
        }
        None => match value.as_int() {
            Some(number) => return Ok(Value::Int(number)),
            None => value.as_float(),
        },
    };
    match float {
        Some(number) if number.is_finite() && number.abs() < 1e38 => Ok(Value::Int(number.trunc() as i128)),
        Some(number) if number.is_finite() => fault("a number has too many digits"),
        Some(number) if number.is_infinite() && value.as_str().is_none() => {
            fault("cannot convert float infinity to integer")
        }
        _ => Ok(default.unwrap_or(Value::Int(0))),
    }
}

pub(super) fn float(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [default] = args.bind("float", ["default"], 0)?;
    if let Value::Undefined(message) = value {
        return fault(&**message);
    }
    let number = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            parse_float(text)
        }
        None => value.as_float(),
    };
    Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

pub(super) fn round(_: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"], 0)?;
    let precision = integer("round", &precision, 0)?.clamp(-400, 400) as i32;
    let method = method.as_ref().and_then(Value::as_str).map_or("common", |method| method);
    let Some(number) = value.as_float() else {
        return match value {
            Value::Undefined(message) => fault(&**message),
            _ => fault(format!("type {} doesn't define __round__ method", value.type_name())),
        };
    };
    match method {
        "common" => match value.as_int() {
            Some(number) if precision >= 0 => Ok(Value::Int(number)),
            Some(number) => {
                let Some(unit) = 10i128.checked_pow(precision.unsigned_abs()) else {
                    return Ok(Value::Int(0));
                };
                let rest = number.rem_euclid(unit);
                // A half is rounded to the even multiple.
                let up = match rest.cmp(&(unit - rest)) {
                    Ordering::Less => false,
                    Ordering::Equal => number.div_euclid(unit) % 2 != 0,
                    Ordering::Greater => true,
                };
                let rounded = if up { number.checked_add(unit - rest) } else { number.checked_sub(rest) };
                rounded.map_or_else(|| fault("a number has too many digits"), |number| Ok(Value::Int(number)))
            }
            None => Ok(Value::Float(round_float(number, precision))),
        },
        "ceil" | "floor" => {
            let unit = 10f64.powi(precision);
            let scaled = number * unit;
            let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Value::Float(whole / unit))
        }
        _ => fault("method must be common, ceil or floor"),
    }
}

/// Python's `round(number, precision)`: the multiple nearest to the exact value, and the even one of two.
fn round_float(number: f64, precision: i32) -> f64 {
    if !number.is_finite() {
        return number;
    }
    match usize::try_from(precision) {
        Ok(digits) if digits > 22 => number,
        Ok(digits) => format!("{number:.digits$}").parse().unwrap_or(number),
        Err(_) => {
            let unit = 10f64.powi(-precision);
            let rounded = (number / unit).round_ties_even() * unit;
            if rounded == 0.0 { 0.0f64.copysign(number) } else { rounded }
        }
    }
}

pub(super) fn filesizeformat(run: Run<'_, '_>, value: &Value, args: Args) -> Outcome<Value> {
    let [binary] = args.bind("filesizeformat", ["binary"], 0)?;
    let binary = is_set(&binary);
    let number = match value.as_str() {
        Some(text) => {
            run.pay_bytes(text.len())?;
            parse_float(text)
        }
        None => value.as_float(),
    };
    let Some(bytes) = number else {
        let shown = text::repr(run, value)?;
        return fault(format!("could not convert to float: {shown}"));
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok(Value::str("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::str(format!("{} Bytes", bytes.trunc())));
    }
    let mut shown = String::new();
    let mut unit = base;
    for prefix in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        unit *= base;
        let prefix = if binary { format!("{}i", prefix.to_ascii_uppercase()) } else { prefix.to_owned() };
        shown = format!("{:.1} {prefix}B", base * bytes / unit);
        if bytes < unit {
            break;
        }
    }
    Ok(Value::str(shown))
}
