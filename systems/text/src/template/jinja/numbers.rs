//! Arithmetic of Python's integers and indices, and parsing of numbers.

use super::fault::{Outcome, fault};
use super::value::Value;

/// Converts an index to a position. A negative index counts from the end. Returns `None` if it is out of range.
pub(super) fn index_of(index: i128, length: usize) -> Option<usize> {
    let index = if index < 0 { index + length as i128 } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// Returns start, stop and step of a slice of `length` items, as Python's `slice.indices` does.
pub(super) fn slice_bounds([start, stop, step]: [Option<i128>; 3], length: i128) -> [i128; 3] {
    // A step longer than any length has the same effect as a longer one, and the clamped step cannot overflow.
    let step = step.unwrap_or(1).clamp(-(1 << 64), 1 << 64);
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i128| (if bound < 0 { bound + length } else { bound }).clamp(lowest, highest);
    let start = start.map_or(if step > 0 { lowest } else { highest }, clamp);
    let stop = stop.map_or(if step > 0 { highest } else { lowest }, clamp);
    [start, stop, step]
}

/// Returns the positions that a slice selects from `length` items.
pub(super) fn slice_indices(parts: [Option<i128>; 3], length: usize) -> impl Iterator<Item = usize> {
    let [start, stop, step] = slice_bounds(parts, length as i128);
    let count = if step > 0 {
        (stop - start + step - 1).div_euclid(step)
    } else {
        (start - stop - step - 1).div_euclid(-step)
    };
    (0..count.max(0)).map(move |index| usize::try_from(start + index * step).unwrap_or_default())
}

/// Division that rounds down. Returns `None` if it overflows or the divisor is zero.
pub(super) fn floor_divide(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// The remainder of [`floor_divide`]. It has the divisor's sign.
pub(super) fn remainder(a: i128, b: i128) -> Option<i128> {
    let rest = a.checked_rem(b)?;
    Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
}

pub(super) fn power(a: i128, b: i128) -> Outcome<Value> {
    if b < 0 {
        if a == 0 {
            return fault("0.0 cannot be raised to a negative power");
        }
        return Ok(Value::Float((a as f64).powf(b as f64)));
    }
    let number = match (a, u32::try_from(b)) {
        (0 | 1, _) => Some(if b == 0 { 1 } else { a }),
        (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
        (_, Ok(b)) => a.checked_pow(b),
        (_, Err(_)) => None,
    };
    number.map_or_else(|| fault("a number has too many digits"), |number| Ok(Value::Int(number)))
}

/// Python's `int(text, base)`.
pub(super) fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(super::python::is_space);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let prefixed = match prefix.as_deref() {
        Some("0x") => Some(16),
        Some("0o") => Some(8),
        Some("0b") => Some(2),
        _ => None,
    };
    let (base, digits) = match prefixed {
        Some(radix) if base == radix || base == 0 => {
            (radix, digits[2..].strip_prefix('_').unwrap_or(&digits[2..]))
        }
        _ if base == 0 => (10, digits),
        _ => (base, digits),
    };
    if digits.is_empty()
        || digits.starts_with(['_', '-', '+'])
        || digits.ends_with('_')
        || digits.contains("__")
    {
        return None;
    }
    if !(2..=36).contains(&base) {
        return None;
    }
    let digits: String = digits.chars().filter(|c| *c != '_').map(ascii_digit).collect();
    let number = i128::from_str_radix(&digits, base).ok()?;
    Some(if negative { -number } else { number })
}

/// Converts a decimal digit of any script to the ASCII digit.
fn ascii_digit(character: char) -> char {
    match super::python::digit_value(character) {
        Some(value) if !character.is_ascii() => char::from_digit(value, 10).unwrap_or(character),
        _ => character,
    }
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::python::is_space);
    let valid_underscores = !text.starts_with('_')
        && !text.ends_with('_')
        && text.split('_').skip(1).all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        && text.split('_').rev().skip(1).all(|part| part.ends_with(|c: char| c.is_ascii_digit()));
    if !valid_underscores {
        return None;
    }
    let plain: String = text.chars().filter(|c| *c != '_').map(ascii_digit).collect();
    let bare = plain.trim_start_matches(['-', '+']);
    if plain.len() - bare.len() > 1 {
        return None;
    }
    match bare.to_ascii_lowercase().as_str() {
        "inf" | "infinity" | "nan" => plain.parse().ok(),
        _ if bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') => plain.parse().ok(),
        _ => None,
    }
}
