//! Converts keys and values to signed bytes with one scale per block, the `Q8_0` format of the KV cache.
//!
//! A block is [`KV_BLOCK`] consecutive elements of a head; the last block may be shorter. Its scale is the largest
//! magnitude / 127 as an f16. A code is the integer nearest to an element over the *stored* scale, ties to even, so
//! that rounding the scale adds no further error.
//!
//! Invariant: codes are -127 to 127. A block of zeros, or one too small for an f16 scale, becomes zeros. A block too
//! large for an f16 scale (above 8.3e6) saturates. NaN or infinity makes the scale NaN, so that it shows wherever the
//! block is attended to.

use crate::kv_arena::KV_BLOCK;
use crate::simd::{LANES, Simd};

/// The largest code.
const LARGEST: f32 = 127.0;
/// The largest finite f16.
const LARGEST_SCALE: f32 = 65_504.0;

/// Converts `x` to `codes`, one per element, and `scales`, one per block.
#[inline(always)]
pub(crate) fn kv_codes<S: Simd>(s: S, x: &[f32], codes: &mut [i8], scales: &mut [u16]) {
    for ((x, codes), scale) in x.chunks(KV_BLOCK).zip(codes.chunks_mut(KV_BLOCK)).zip(scales) {
        if let (Ok(x), Ok(codes)) = (x.try_into(), codes.try_into()) {
            *scale = block(s, x, codes);
        } else {
            let mut whole = [0.0; KV_BLOCK];
            let mut rounded = [0; KV_BLOCK];
            whole[..x.len()].copy_from_slice(x);
            *scale = block(s, &whole, &mut rounded);
            let n = codes.len().min(x.len());
            codes[..n].copy_from_slice(&rounded[..n]);
        }
    }
}

/// Converts one block and returns its scale.
#[inline(always)]
fn block<S: Simd>(s: S, x: &[f32; KV_BLOCK], codes: &mut [i8; KV_BLOCK]) -> u16 {
    let (halves, _) = x.as_chunks::<LANES>();
    let (a, b) = (s.load(&halves[0]), s.load(&halves[1]));
    let largest = s.reduce_max(s.max(s.abs(a), s.abs(b)));
    // Zero, or NaN if any element is NaN or infinite, which the maximum may miss.
    let zero = s.splat(0.0);
    let finite = s.reduce_add(s.fma(a, zero, s.mul(b, zero)));
    let scale = if finite == 0.0 { (largest / LARGEST).min(LARGEST_SCALE) } else { f32::NAN };
    let mut stored = [0; LANES];
    s.store_f16(s.splat(scale), &mut stored);
    let [stored, ..] = stored;
    // In a block without a scale no element is near 1.
    let divisor = if stored == 0 { s.splat(1.0) } else { s.load_f16(&[stored; LANES]) };
    let (out, _) = codes.as_chunks_mut::<LANES>();
    s.store_i8(s.round(clamped(s, s.div(a, divisor))), &mut out[0]);
    s.store_i8(s.round(clamped(s, s.div(b, divisor))), &mut out[1]);
    stored
}

/// `v` limited to -127 to 127.
#[inline(always)]
fn clamped<S: Simd>(s: S, v: S::F) -> S::F {
    let lowest = s.splat(-LARGEST);
    let v = s.max(lowest, v);
    let zero = s.splat(0.0);
    s.sub(zero, s.max(lowest, s.sub(zero, v)))
}
