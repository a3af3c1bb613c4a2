//! Converts keys and values to signed codes with one scale per block: the formats `Q8_0` and `Q4_0` of the KV cache.
//!
//! A block is [`KV_BLOCK`] consecutive elements of a head; the last block may be shorter. A code is the integer nearest
//! to an element over the *stored* scale, an f16, ties to even, so that rounding the scale adds no further error. How a
//! scale is chosen is a [`Scale`].
//!
//! Invariant: codes are within the range of their bits. A block of zeros, or one too small for an f16 scale, becomes
//! zeros. A block too large for an f16 scale saturates. NaN or infinity makes the scale NaN, so that it shows wherever
//! the block is attended to.

use crate::kv_arena::KV_BLOCK;
use crate::simd::{LANES, Simd};

/// The largest finite f16.
const LARGEST_SCALE: f32 = 65_504.0;

/// The codes of one width.
pub(crate) trait Codes {
    /// The smallest and the largest code.
    const CODES: [f32; 2];
}

/// How the scale of a block is chosen.
pub(crate) trait Scale: Codes {
    /// The scale of a finite block whose largest magnitude is `largest`.
    fn scale<S: Simd>(s: S, x: [S::F; 2], largest: f32) -> f32;
}

/// Codes of 8 bits. The scale is the largest magnitude / 127. Blocks saturate above 8.3e6.
pub(crate) struct Bits8;

impl Codes for Bits8 {
    const CODES: [f32; 2] = [-127.0, 127.0];
}

impl Scale for Bits8 {
    #[inline(always)]
    fn scale<S: Simd>(_: S, _: [S::F; 2], largest: f32) -> f32 {
        largest / 127.0
    }
}

/// Codes of 4 bits. Blocks saturate above 5.2e5.
///
/// The element with the largest magnitude takes the sign that has 8 codes, so the scale may be negative. Because few
/// elements are that large, a smaller scale, which limits them, often has less error in all. Each of [`DIVISORS`]
/// gives candidate codes. For the codes `q` the best scale is `Σ x q / Σ q²`, which leaves the error
/// `Σ x² - (Σ x q)² / Σ q²`. The scale with the least error is taken.
///
/// For blocks of a normal distribution the mean squared error is 0.0067 of the variance, and 0.0074 if the scale is
/// always the largest element / -8, as in llama.cpp. More candidates gain little: sixteen give 0.0066.
pub(crate) struct Bits4;

/// The largest element over the candidate scales: see [`Bits4`].
const DIVISORS: [f32; 3] = [-7.8, -8.5, -9.75];

impl Codes for Bits4 {
    const CODES: [f32; 2] = [-8.0, 7.0];
}

impl Scale for Bits4 {
    #[inline(always)]
    fn scale<S: Simd>(s: S, x: [S::F; 2], largest: f32) -> f32 {
        if largest == 0.0 {
            return 0.0;
        }
        // Divided by the largest magnitude, so that no square overflows or vanishes.
        // No closures: `array::map` would call them without the instruction set's features, so that nothing is inlined.
        let unit = [s.div(x[0], s.splat(largest)), s.div(x[1], s.splat(largest))];
        let positive = s.reduce_max(s.max(unit[0], unit[1]));
        let signed = if positive == 1.0 { 1.0 } else { -1.0 };
        let (mut best, mut scale) = (0.0, 0.0);
        for divisor in DIVISORS {
            let inverse = s.splat(divisor * signed);
            let q = [
                s.to_float(nearest::<S, Self>(s, s.mul(unit[0], inverse))),
                s.to_float(nearest::<S, Self>(s, s.mul(unit[1], inverse))),
            ];
            let products = s.reduce_add(s.fma(unit[0], q[0], s.mul(unit[1], q[1])));
            let squares = s.reduce_add(s.fma(q[0], q[0], s.mul(q[1], q[1])));
            let gain = products * products / squares;
            if gain > best {
                (best, scale) = (gain, products / squares);
            }
        }
        scale * largest
    }
}

/// Converts `x` to `codes`, one per element, and `scales`, one per block.
#[inline(always)]
pub(crate) fn kv_codes<S: Simd, C: Scale>(s: S, x: &[f32], codes: &mut [i8], scales: &mut [u16]) {
    for ((x, codes), scale) in x.chunks(KV_BLOCK).zip(codes.chunks_mut(KV_BLOCK)).zip(scales) {
        if let (Ok(x), Ok(codes)) = (x.try_into(), codes.try_into()) {
            *scale = block::<S, C>(s, x, codes);
        } else {
            let mut whole = [0.0; KV_BLOCK];
            let mut rounded = [0; KV_BLOCK];
            whole[..x.len()].copy_from_slice(x);
            *scale = block::<S, C>(s, &whole, &mut rounded);
            let n = codes.len().min(x.len());
            codes[..n].copy_from_slice(&rounded[..n]);
        }
    }
}

/// Converts one block and returns its scale.
#[inline(always)]
fn block<S: Simd, C: Scale>(s: S, x: &[f32; KV_BLOCK], codes: &mut [i8; KV_BLOCK]) -> u16 {
    let (halves, _) = x.as_chunks::<LANES>();
    let (a, b) = (s.load(&halves[0]), s.load(&halves[1]));
    let largest = s.reduce_max(s.max(s.abs(a), s.abs(b)));
    // Zero, or NaN if any element is NaN or infinite, which the maximum may miss.
    let zero = s.splat(0.0);
    let finite = s.reduce_add(s.fma(a, zero, s.mul(b, zero)));
    let scale = if finite == 0.0 {
        C::scale(s, [a, b], largest).clamp(-LARGEST_SCALE, LARGEST_SCALE)
    } else {
        f32::NAN
    };
    let mut stored = [0; LANES];
    s.store_f16(s.splat(scale), &mut stored);
    let [stored, ..] = stored;
    // In a block without a scale no element is near 1.
    let none = stored & 0x7FFF == 0;
    let divisor = if none { s.splat(1.0) } else { s.load_f16(&[stored; LANES]) };
    let (out, _) = codes.as_chunks_mut::<LANES>();
    s.store_i8(nearest::<S, C>(s, s.div(a, divisor)), &mut out[0]);
    s.store_i8(nearest::<S, C>(s, s.div(b, divisor)), &mut out[1]);
    stored
}

/// The nearest code.
#[inline(always)]
pub(super) fn nearest<S: Simd, C: Codes>(s: S, v: S::F) -> S::I {
    let zero = s.splat(0.0);
    let [smallest, largest] = C::CODES;
    let v = s.max(s.splat(smallest), v);
    s.round(s.sub(zero, s.max(s.splat(-largest), s.sub(zero, v))))
}
