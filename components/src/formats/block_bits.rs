//! Reads the bits of a block: f16, words, and codes of a few bits.

use super::block_format::CODES;

/// The 16 bits at `bytes[at..at + 2]`, little endian.
#[inline]
pub(crate) fn half_bits(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The word at `bytes[at..at + 4]`, little endian.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Value of the f16 at `bytes[at..at + 2]`.
#[inline]
pub(crate) fn half_value(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_bits(half_bits(bytes, at)).to_f32()
}

/// The 32 nibbles of 16 bytes: low halves are elements 0 to 15, high halves elements 16 to 31.
#[inline]
pub(crate) fn nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, byte) in bytes.iter().take(16).enumerate() {
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}

/// `codes` with bit `i` of `high` as the fifth bit of code `i`.
#[inline]
pub(crate) fn high_bits(mut codes: [u8; CODES], high: u32) -> [u8; CODES] {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((high >> i) as u8 & 1) << 4;
    }
    codes
}

/// The bits `mask << shift` of each of the first 32 bytes.
#[inline]
pub(crate) fn bit_fields(bytes: &[u8], shift: usize, mask: u8) -> [u8; CODES] {
    let mut out = [0; CODES];
    for (code, byte) in out.iter_mut().zip(bytes) {
        *code = (byte >> shift) & mask;
    }
    out
}

/// 32 signed bytes plus 128 each.
#[inline]
pub(crate) fn signed_bytes(bytes: &[u8]) -> [u8; CODES] {
    let mut codes = [0; CODES];
    for (code, byte) in codes.iter_mut().zip(bytes) {
        *code = byte ^ 0x80;
    }
    codes
}

/// The 6-bit scale and minimum of part `part`, from the 12 bytes of Q4_K and Q5_K.
///
/// Bytes 0 to 3 contain the scales of parts 0 to 3, bytes 4 to 7 their minimums. Above them are the high two bits of
/// the scales and minimums of parts 4 to 7. Bytes 8 to 11 contain the low nibbles of these scales, and above them those
/// of these minimums.
#[inline]
pub(crate) fn scale_and_min(bytes: &[u8], part: usize) -> (i8, i8) {
    let i = part % 4;
    let (scale, min) = if part < 4 {
        (bytes[i] & 63, bytes[4 + i] & 63)
    } else {
        ((bytes[8 + i] & 15) | ((bytes[i] >> 6) << 4), (bytes[8 + i] >> 4) | ((bytes[4 + i] >> 6) << 4))
    };
    (scale.cast_signed(), min.cast_signed())
}
