//! One file a format, and the table of them all.
//!
//! Block layouts: the GGUF document and `ggml-common.h` of the ggml project; sizes as its Python package states them.

mod bf16;
mod f16;
mod f32;
mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod tq1_0;
mod tq2_0;

pub use bf16::Bf16;
pub use f16::F16;
pub use f32::F32;
pub use iq1_m::Iq1M;
pub use iq1_s::Iq1S;
pub use iq2_s::Iq2S;
pub use iq2_xs::Iq2Xs;
pub use iq2_xxs::Iq2Xxs;
pub use iq3_s::Iq3S;
pub use iq3_xxs::Iq3Xxs;
pub use iq4_nl::Iq4Nl;
pub use iq4_xs::Iq4Xs;
pub use mxfp4::Mxfp4;
pub use q2_k::Q2K;
pub use q3_k::Q3K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5K;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;
pub use q8_1::Q8_1;
pub use q8_k::Q8K;
pub use tq1_0::Tq1_0;
pub use tq2_0::Tq2_0;

use crate::format::{CODES, FormatInfo};

/// Every tensor type that a GGUF file can name, by type id.
pub static FORMATS: [FormatInfo; 34] = [
    FormatInfo::of::<F32>(),
    FormatInfo::of::<F16>(),
    FormatInfo::of::<Q4_0>(),
    FormatInfo::of::<Q4_1>(),
    FormatInfo::of::<Q5_0>(),
    FormatInfo::of::<Q5_1>(),
    FormatInfo::of::<Q8_0>(),
    FormatInfo::of::<Q8_1>(),
    FormatInfo::of::<Q2K>(),
    FormatInfo::of::<Q3K>(),
    FormatInfo::of::<Q4K>(),
    FormatInfo::of::<Q5K>(),
    FormatInfo::of::<Q6K>(),
    FormatInfo::of::<Q8K>(),
    FormatInfo::of::<Iq2Xxs>(),
    FormatInfo::of::<Iq2Xs>(),
    FormatInfo::of::<Iq3Xxs>(),
    FormatInfo::of::<Iq1S>(),
    FormatInfo::of::<Iq4Nl>(),
    FormatInfo::of::<Iq3S>(),
    FormatInfo::of::<Iq2S>(),
    FormatInfo::of::<Iq4Xs>(),
    FormatInfo::known("I8", 24, 1, 1),
    FormatInfo::known("I16", 25, 1, 2),
    FormatInfo::known("I32", 26, 1, 4),
    FormatInfo::known("I64", 27, 1, 8),
    FormatInfo::known("F64", 28, 1, 8),
    FormatInfo::of::<Iq1M>(),
    FormatInfo::of::<Bf16>(),
    FormatInfo::of::<Tq1_0>(),
    FormatInfo::of::<Tq2_0>(),
    FormatInfo::of::<Mxfp4>(),
    FormatInfo::known("NVFP4", 40, 64, 36),
    FormatInfo::known("Q1_0", 41, 128, 18),
];

/// Half bits at `bytes[at..at + 2]`, little endian.
#[inline]
pub(crate) fn half_bits(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The word at `bytes[at..at + 4]`, little endian.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Value of the half at `bytes[at..at + 2]`.
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

/// 32 signed bytes, each plus 128.
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
/// Bytes 0 to 3 and 4 to 7 hold the scales and minimums of parts 0 to 3 and, above them, the high two bits of those of parts 4 to
/// 7; bytes 8 to 11 hold the low nibbles of these scales, and above them of these minimums.
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
