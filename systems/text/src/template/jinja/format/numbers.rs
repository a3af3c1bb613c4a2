//! Formats integers and floats.

use super::super::fault::{Outcome, fault};
use super::super::interpreter::Interpreter;
use super::super::text;
use super::layout::{Spec, pad};
use std::iter::repeat_n;

/// The most digits after the point of a formatted float. Rust's formatting panics for precisions that exceed 16 bits,
/// and `%g` needs a few more digits than its precision.
const MAX_PRECISION: usize = 1 << 15;

/// Returns sign, prefix and digits.
pub(super) fn integer_parts(number: i128, spec: &Spec) -> (String, &'static str, String) {
    let sign = sign(number < 0, spec);
    let size = number.unsigned_abs();
    let (prefix, digits) = match spec.kind {
        Some('b') => ("0b", format!("{size:b}")),
        Some('o') => ("0o", format!("{size:o}")),
        Some('x') => ("0x", format!("{size:x}")),
        Some('X') => ("0X", format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    (sign, if spec.alternate { prefix } else { "" }, digits)
}

pub(super) fn float_value(run: &mut Interpreter<'_>, number: f64, spec: &Spec) -> Outcome<String> {
    let precision = spec.precision.unwrap_or(6);
    // Fuel for digits is taken before they are made.
    if precision > MAX_PRECISION {
        run.pay_bytes(precision)?;
        return fault("the precision of a format is too large");
    }
    run.pay_bytes(precision + 310)?;
    let sign = sign(number.is_sign_negative() && !number.is_nan(), spec);
    let size = number.abs();
    let kind = spec.kind.unwrap_or('\0');
    let mut shown = if !number.is_finite() {
        if number.is_nan() { "nan" } else { "inf" }.to_owned()
    } else {
        match kind.to_ascii_lowercase() {
            'f' => format!("{size:.precision$}"),
            '%' => format!("{:.precision$}", size * 100.0),
            'e' => exponent(&format!("{size:.precision$e}")),
            'g' | 'n' => general(size, precision, spec.alternate),
            _ => match spec.precision {
                None => text::float(size),
                Some(precision) => {
                    let shown = general(size, precision, false);
                    if shown.contains(['.', 'e']) { shown } else { shown + ".0" }
                }
            },
        }
    };
    if spec.alternate && !shown.contains('.') && matches!(kind, 'f' | 'F' | 'e' | 'E') && number.is_finite() {
        let at = shown.find('e').unwrap_or(shown.len());
        shown.insert(at, '.');
    }
    if kind.is_ascii_uppercase() {
        shown = shown.to_ascii_uppercase();
    }
    let end = shown.find(['.', 'e', 'E']).unwrap_or(shown.len());
    shown = group(&shown[..end], spec.grouping, 3) + &shown[end..];
    if kind == '%' {
        shown.push('%');
    }
    pad_number(run, &sign, &shown, 0, spec)
}

pub(super) fn group(digits: &str, separator: Option<char>, size: usize) -> String {
    let Some(separator) = separator else { return digits.to_owned() };
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

pub(super) fn pad_number(
    run: &mut Interpreter<'_>,
    sign: &str,
    shown: &str,
    prefix: usize,
    spec: &Spec,
) -> Outcome<String> {
    if spec.align == Some('=') {
        if spec.grouping.is_some() && spec.width > sign.len() + shown.len() {
            return fault("a format with both leading zeros and groups of digits is not supported");
        }
        let missing = spec.width.saturating_sub(sign.len() + shown.len());
        run.pay_bytes(missing)?;
        let fill: String = repeat_n(spec.fill.unwrap_or(' '), missing).collect();
        return Ok(format!("{sign}{}{fill}{}", &shown[..prefix], &shown[prefix..]));
    }
    pad(run, &format!("{sign}{shown}"), spec, '>')
}

fn sign(negative: bool, spec: &Spec) -> String {
    match spec.sign {
        _ if negative => "-".to_owned(),
        Some('+') => "+".to_owned(),
        Some(' ') => " ".to_owned(),
        _ => String::new(),
    }
}

/// Rewrites the exponent of `1.5e-7` as Python does: with a sign and at least two digits.
fn exponent(shown: &str) -> String {
    let (digits, exponent) = shown.split_once('e').unwrap_or((shown, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// C's `%g`.
fn general(size: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    let scientific = format!("{size:.*e}", precision - 1);
    let power: i64 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let fixed = (-4..precision as i64).contains(&power);
    let shown = if fixed {
        format!("{size:.*}", usize::try_from(precision as i64 - 1 - power).unwrap_or(0))
    } else {
        exponent(&scientific)
    };
    if alternate {
        return shown;
    }
    let (digits, tail) = shown.split_at(shown.find('e').unwrap_or(shown.len()));
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits}{tail}")
}
