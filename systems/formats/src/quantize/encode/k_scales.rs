//! Encoders of Q3_K and Q6_K: super-blocks of 256 elements with a scale for each 16 elements.

use super::bits::add_bits;
use super::search::{Signed, by_size_and_mean};
use super::supers::{Super, scaled};

/// `w = d s (code - 4)`. `s` has 6 bits.
pub(super) fn q3_k(x: &[f32], out: &mut [u8]) -> Option<()> {
    out.fill(0);
    let parts: Super<16, 16> = scaled(x, Signed(4.0), by_size_and_mean, 32.0, (&mut *out, 108))?;
    for (part, codes) in parts.codes.as_flattened().chunks_exact(32).enumerate() {
        add_bits(out.get_mut(..32)?, codes, 2, 1, part);
        add_bits(out.get_mut(32 + 32 * (part / 4)..96)?, codes, 0, 3, 2 * (part % 4));
    }
    let scales = parts.scales.map(|scale| (scale + 32).cast_unsigned());
    for (eighth, scales) in scales.chunks_exact(8).enumerate() {
        add_bits(out.get_mut(96..104)?, scales, 0, 15, 4 * eighth);
    }
    for (quarter, scales) in scales.chunks_exact(4).enumerate() {
        add_bits(out.get_mut(104..108)?, scales, 4, 3, 2 * quarter);
    }
    Some(())
}

/// `w = d s (code - 32)`. `s` has 8 bits.
pub(super) fn q6_k(x: &[f32], out: &mut [u8]) -> Option<()> {
    out.fill(0);
    let parts: Super<16, 16> = scaled(x, Signed(32.0), by_size_and_mean, 128.0, (&mut *out, 208))?;
    for (part, codes) in parts.codes.as_flattened().chunks_exact(32).enumerate() {
        let (half, quarter) = (part / 4, part % 4);
        add_bits(out.get_mut(64 * half + 32 * (quarter % 2)..128)?, codes, 0, 15, 4 * (quarter / 2));
        add_bits(out.get_mut(128 + 32 * half..192)?, codes, 4, 3, 2 * quarter);
    }
    for (byte, scale) in out.get_mut(192..208)?.iter_mut().zip(parts.scales) {
        *byte = scale.cast_unsigned();
    }
    Some(())
}
