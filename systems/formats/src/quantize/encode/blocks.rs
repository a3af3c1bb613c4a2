//! Encoders of Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 elements with a scale, or a scale and a minimum.

use super::bits::{fifth_bits, put_half, put_nibbles};
use super::search::{Lines, Signed, Unit, Values, best_line, by_size_and_mean, clamp, inverse, peak, round};

/// Elements of a block.
const N: usize = 32;

/// Writes the scale at the start of the block and returns the codes.
///
/// The largest element gets an exact code. A scale with less squared error would clip it, which harms models: SmolLM2
/// in Q5_0 then diverges more from the original (0.087 instead of 0.079), although its weights are closer.
#[inline(always)]
fn scaled(x: &[f32; N], values: Signed, out: &mut [u8]) -> Option<[u8; N]> {
    let scale = peak(x) / values.farthest();
    put_half(out, 0, scale)?;
    // Codes are computed from the scale before rounding, as other quantizers do.
    let inverse = inverse(scale);
    Some(x.map(|x| values.code(values.nearest(inverse * x))))
}

/// Writes the scale and the minimum at the start of the block and returns the codes, from 0 to `most`.
#[inline(always)]
fn with_min(x: &[f32; N], most: f32, out: &mut [u8]) -> Option<[u8; N]> {
    let unit = Unit::of(x);
    let parts = unit.parts(x);
    let lines = Lines { most, free: true, from: -0.9, tries: 19 };
    let line = best_line(lines, &parts, &by_size_and_mean(&parts));
    let scale = put_half(out, 0, line.scale * unit.size)?;
    let min = put_half(out, 2, line.min * unit.size)?;
    let inverse = inverse(scale);
    Some(x.map(|x| round(clamp(inverse * (x - min), 0.0, most)) as u8))
}

/// As [`with_min`], but codes span the range from the least to the largest element. With this many codes a line of less
/// squared error, which clips both ends, harms a model: the divergence is 0.0186 instead of 0.0161 in Q5_1 on a tiny
/// Llama.
#[inline(always)]
fn with_span(x: &[f32; N], most: f32, out: &mut [u8]) -> Option<[u8; N]> {
    let (least, largest) =
        x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let scale = (largest - least) / most;
    put_half(out, 0, scale)?;
    put_half(out, 2, least)?;
    // Codes are computed from the values before rounding, as other quantizers do.
    let inverse = inverse(scale);
    Some(x.map(|x| round(clamp(inverse * (x - least), 0.0, most)) as u8))
}

/// `w = d (code - 8)`.
pub(super) fn q4_0(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = scaled(x.first_chunk()?, Signed(8.0), out)?;
    put_nibbles(out.get_mut(2..)?, &codes);
    Some(())
}

/// `w = d code + m`.
pub(super) fn q4_1(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = with_min(x.first_chunk()?, 15.0, out)?;
    put_nibbles(out.get_mut(4..)?, &codes);
    Some(())
}

/// `w = d (code - 16)`.
pub(super) fn q5_0(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = scaled(x.first_chunk()?, Signed(16.0), out)?;
    out.get_mut(2..6)?.copy_from_slice(&fifth_bits(&codes));
    put_nibbles(out.get_mut(6..)?, &codes);
    Some(())
}

/// `w = d code + m`.
pub(super) fn q5_1(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = with_span(x.first_chunk()?, 31.0, out)?;
    out.get_mut(4..8)?.copy_from_slice(&fifth_bits(&codes));
    put_nibbles(out.get_mut(8..)?, &codes);
    Some(())
}

/// `w = d q`. The codes are fine enough that mapping the largest element to the largest code is as good as any scale.
pub(super) fn q8_0(x: &[f32], out: &mut [u8]) -> Option<()> {
    const MOST: f32 = 127.0;
    let scale = peak(x).abs() / MOST;
    put_half(out, 0, scale)?;
    let inverse = inverse(scale);
    for (byte, x) in out.get_mut(2..)?.iter_mut().zip(x) {
        *byte = (round(clamp(inverse * x, -MOST, MOST)) as i8).cast_unsigned();
    }
    Some(())
}
