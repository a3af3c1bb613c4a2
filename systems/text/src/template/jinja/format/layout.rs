//! The layout of a formatted value: fill, alignment, width, and truncation to a number of characters.

use super::super::fault::Outcome;
use super::super::interpreter::Interpreter;
use std::iter::{Peekable, repeat_n};
use std::str::Chars;

/// A format specification, parsed.
#[derive(Debug, Default, Clone)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) width: usize,
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: Option<char>,
}

/// Reads the digits of a number in a format. A number that is too large becomes `usize::MAX`, for which there is never
/// enough fuel.
pub(super) fn number(characters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut digits = String::new();
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX))
}

pub(super) fn pad(run: &mut Interpreter<'_>, shown: &str, spec: &Spec, default: char) -> Outcome<String> {
    let missing = spec.width.saturating_sub(shown.chars().count());
    run.pay_bytes(missing.saturating_mul(4))?;
    let fill = |count| repeat_n(spec.fill.unwrap_or(' '), count).collect::<String>();
    let left = match spec.align.unwrap_or(default) {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    Ok(format!("{}{shown}{}", fill(left), fill(missing - left)))
}

pub(super) fn cut(shown: &str, characters: Option<usize>) -> String {
    match characters {
        Some(count) => shown.chars().take(count).collect(),
        None => shown.to_owned(),
    }
}

/// Escapes the characters that are not ASCII.
pub(super) fn ascii(shown: &str) -> String {
    let mut out = String::with_capacity(shown.len());
    for character in shown.chars() {
        match u32::from(character) {
            0..0x80 => out.push(character),
            code @ 0x80..0x100 => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}
