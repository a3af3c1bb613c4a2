//! One file per format, and the table of all formats.
//!
//! Block layouts are those of the GGUF document and of `ggml-common.h` of the ggml project; sizes are those of its
//! Python package.

mod bf16;
mod block_bits;
pub mod block_format;
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

use block_format::FormatInfo;

/// Calls a macro with what is given to it, followed by the types of all formats that the engine computes with, in the
/// order of their type ids. The only list of them.
#[macro_export]
macro_rules! computed_formats {
    ($($callback:ident)::+ { $($given:tt)* }) => {
        $($callback)::+! { $($given)*
            F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 Q2K Q3K Q4K Q5K Q6K Q8K Iq2Xxs Iq2Xs Iq3Xxs Iq1S Iq4Nl Iq3S Iq2S Iq4Xs
            Iq1M Bf16 Tq1_0 Tq2_0 Mxfp4
        }
    };
}

macro_rules! table {
    ($($format:ident)*) => {
        &[
            $(FormatInfo::of::<$format>(),)*
            FormatInfo::known("I8", 24, 1, 1),
            FormatInfo::known("I16", 25, 1, 2),
            FormatInfo::known("I32", 26, 1, 4),
            FormatInfo::known("I64", 27, 1, 8),
            FormatInfo::known("F64", 28, 1, 8),
            FormatInfo::known("NVFP4", 40, 64, 36),
            FormatInfo::known("Q1_0", 41, 128, 18),
        ]
    };
}

/// Every tensor type that a GGUF file can name: those that the engine computes with, then the others, which it only
/// knows the sizes of.
pub static FORMATS: &[FormatInfo] = crate::computed_formats!(table {});
