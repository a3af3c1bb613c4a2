//! Packing of codes and scales into blocks: the inverse of the readers in the formats of `weft-components`.

use half::f16;

/// Writes `value` as an f16 at `out[at..at + 2]` and returns the rounded value; `None` if it exceeds the f16 range.
pub(super) fn put_half(out: &mut [u8], at: usize, value: f32) -> Option<f32> {
    let half = f16::from_f32(value);
    out.get_mut(at..at + 2)?.copy_from_slice(&half.to_le_bytes());
    half.is_finite().then(|| half.to_f32())
}

/// Writes 32 codes of 4 bits into 16 bytes: elements 0 to 15 in the low nibbles, 16 to 31 in the high nibbles.
pub(super) fn put_nibbles(out: &mut [u8], codes: &[u8; 32]) {
    let (low, high) = codes.split_at(16);
    for ((byte, low), high) in out.iter_mut().zip(low).zip(high) {
        *byte = (low & 15) | (high & 15) << 4;
    }
}

/// Returns the fifth bits of 32 codes. Bit `i` belongs to element `i`.
pub(super) fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0u32, |bits, (i, code)| bits | u32::from(code >> 4 & 1) << i);
    bits.to_le_bytes()
}

/// Adds the bits `(code >> from) & mask` of each code to one byte of `out`, shifted left by `to`. Those bits of `out`
/// must be 0.
pub(super) fn add_bits(out: &mut [u8], codes: &[u8], from: u32, mask: u8, to: usize) {
    for (byte, code) in out.iter_mut().zip(codes) {
        *byte |= ((code >> from) & mask) << to;
    }
}

/// Packs eight 6-bit scales and eight 6-bit minimums into 12 bytes, as in Q4_K and Q5_K.
pub(super) fn pack_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for i in 0..4 {
        out[i] = scales[i] | (scales[i + 4] >> 4) << 6;
        out[i + 4] = mins[i] | (mins[i + 4] >> 4) << 6;
        out[i + 8] = (scales[i + 4] & 15) | (mins[i + 4] & 15) << 4;
    }
    out
}
