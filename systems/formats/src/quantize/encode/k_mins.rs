//! Encoders of Q2_K, Q4_K and Q5_K: super-blocks of 256 elements, divided into sub-blocks with a scale and a minimum.

use super::bits::{add_bits, pack_scales_and_mins};
use super::search::{Lines, by_size_and_mean};
use super::supers::{Super, with_mins};

/// Weights each element's error by its magnitude: large weights tend to meet large activations.
fn by_size(x: &[f32; 16]) -> [f32; 16] {
    x.map(f32::abs)
}

/// `w = d s code - dmin m` for each 16 elements. `s` and `m` have 4 bits.
pub(super) fn q2_k(x: &[f32], out: &mut [u8]) -> Option<()> {
    out.fill(0);
    let lines = Lines { most: 3.0, free: false, from: -0.5, tries: 16 };
    let parts: Super<16, 16> = with_mins(x, lines, by_size, 15.0, (&mut *out, [80, 82]))?;
    for (byte, (scale, min)) in out.iter_mut().zip(parts.scales.iter().zip(parts.mins)) {
        *byte = scale.cast_unsigned() | min << 4;
    }
    for (part, codes) in parts.codes.as_flattened().chunks_exact(32).enumerate() {
        add_bits(out.get_mut(16 + 32 * (part / 4)..)?, codes, 0, 3, 2 * (part % 4));
    }
    Some(())
}

/// Encodes the sub-blocks of Q4_K and Q5_K, and writes the f16 factors, scales and minimums at the start of the block.
#[inline(always)]
fn parts_of_32(x: &[f32], lines: Lines, out: &mut [u8]) -> Option<[[u8; 32]; 8]> {
    out.fill(0);
    let parts: Super<32, 8> = with_mins(x, lines, by_size_and_mean, 63.0, (&mut *out, [0, 2]))?;
    let scales = parts.scales.map(i8::cast_unsigned);
    out.get_mut(4..16)?.copy_from_slice(&pack_scales_and_mins(&scales, &parts.mins));
    Some(parts.codes)
}

/// `w = d s code - dmin m` for each 32 elements. `s` and `m` have 6 bits.
pub(super) fn q4_k(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = parts_of_32(x, Lines { most: 15.0, free: false, from: -1.0, tries: 21 }, out)?;
    for (part, codes) in codes.iter().enumerate() {
        add_bits(out.get_mut(16 + 32 * (part / 2)..)?, codes, 0, 15, 4 * (part % 2));
    }
    Some(())
}

/// As Q4_K, with a fifth bit for each code.
pub(super) fn q5_k(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = parts_of_32(x, Lines { most: 31.0, free: false, from: -0.5, tries: 16 }, out)?;
    for (part, codes) in codes.iter().enumerate() {
        add_bits(out.get_mut(16..48)?, codes, 4, 1, part);
        add_bits(out.get_mut(48 + 32 * (part / 2)..)?, codes, 0, 15, 4 * (part % 2));
    }
    Some(())
}
