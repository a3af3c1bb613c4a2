//! One file a format, and the table of them all.
//!
//! Block layouts: the GGUF document and `ggml-common.h` of the ggml project; sizes as its Python package states them.

mod bf16;
mod f16;
mod f32;
mod q4_0;
mod q4_1;
mod q8_0;

pub use bf16::Bf16;
pub use f16::F16;
pub use f32::F32;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q8_0::Q8_0;

use crate::format::FormatInfo;

/// Every tensor type that a GGUF file can name.
pub static FORMATS: [FormatInfo; 34] = [
    FormatInfo::of::<F32>(),
    FormatInfo::of::<F16>(),
    FormatInfo::of::<Q4_0>(),
    FormatInfo::of::<Q4_1>(),
    FormatInfo::of::<Q8_0>(),
    FormatInfo::of::<Bf16>(),
    FormatInfo::known("Q5_0", 6, 32, 22),
    FormatInfo::known("Q5_1", 7, 32, 24),
    FormatInfo::known("Q8_1", 9, 32, 36),
    FormatInfo::known("Q2_K", 10, 256, 84),
    FormatInfo::known("Q3_K", 11, 256, 110),
    FormatInfo::known("Q4_K", 12, 256, 144),
    FormatInfo::known("Q5_K", 13, 256, 176),
    FormatInfo::known("Q6_K", 14, 256, 210),
    FormatInfo::known("Q8_K", 15, 256, 292),
    FormatInfo::known("IQ2_XXS", 16, 256, 66),
    FormatInfo::known("IQ2_XS", 17, 256, 74),
    FormatInfo::known("IQ3_XXS", 18, 256, 98),
    FormatInfo::known("IQ1_S", 19, 256, 50),
    FormatInfo::known("IQ4_NL", 20, 32, 18),
    FormatInfo::known("IQ3_S", 21, 256, 110),
    FormatInfo::known("IQ2_S", 22, 256, 82),
    FormatInfo::known("IQ4_XS", 23, 256, 136),
    FormatInfo::known("I8", 24, 1, 1),
    FormatInfo::known("I16", 25, 1, 2),
    FormatInfo::known("I32", 26, 1, 4),
    FormatInfo::known("I64", 27, 1, 8),
    FormatInfo::known("F64", 28, 1, 8),
    FormatInfo::known("IQ1_M", 29, 256, 56),
    FormatInfo::known("TQ1_0", 34, 256, 54),
    FormatInfo::known("TQ2_0", 35, 256, 66),
    FormatInfo::known("MXFP4", 39, 32, 17),
    FormatInfo::known("NVFP4", 40, 64, 36),
    FormatInfo::known("Q1_0", 41, 128, 18),
];

/// Half bits at `bytes[at..at + 2]`, little endian.
pub(crate) fn half_bits(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Value of the half at `bytes[at..at + 2]`.
pub(crate) fn half_value(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_bits(half_bits(bytes, at)).to_f32()
}

/// The 32 nibbles of 16 bytes: low halves are elements 0 to 15, high halves elements 16 to 31.
pub(crate) fn nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, byte) in bytes.iter().take(16).enumerate() {
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}
