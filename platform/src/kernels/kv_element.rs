//! How attention reads the elements of each format of the KV cache.
//!
//! Elements are stored in groups of 16 lanes. Codes become floats without their scale, which `attend` applies to a whole
//! block.

use crate::simd::{LANES, Simd};

/// The elements of one format.
pub(crate) trait Element {
    /// A group of 16 elements as it is stored.
    type Lanes: bytemuck::Pod;

    /// True if each block of elements has a scale.
    const SCALED: bool;

    /// True if blocks have a least value as well, and those of keys are 32 tokens of one dimension.
    const AFFINE: bool = false;

    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F;
}

/// `KvFormat::F16`.
pub(crate) struct F16;
/// `KvFormat::F32`.
pub(crate) struct F32;
/// `KvFormat::Bf16`.
pub(crate) struct Bf16;
/// `KvFormat::Q8_0`.
pub(crate) struct Q8;
/// `KvFormat::Q4_0`.
pub(crate) struct Q4;
/// `KvFormat::Kivi2`.
pub(crate) struct Kivi2;

impl Element for F16 {
    type Lanes = [u16; LANES];
    const SCALED: bool = false;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        s.load_f16(v)
    }
}

impl Element for F32 {
    type Lanes = [f32; LANES];
    const SCALED: bool = false;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        s.load(v)
    }
}

impl Element for Bf16 {
    type Lanes = [u16; LANES];
    const SCALED: bool = false;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        s.load_bf16(v)
    }
}

impl Element for Q8 {
    type Lanes = [i8; LANES];
    const SCALED: bool = true;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        let mut floats = [0.0; LANES];
        for (float, code) in floats.iter_mut().zip(v) {
            *float = f32::from(*code);
        }
        s.load(&floats)
    }
}

impl Element for Q4 {
    type Lanes = [u8; LANES / 2];
    const SCALED: bool = true;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        s.sub(s.to_float(s.load_u4(v)), s.splat(8.0))
    }
}

impl Element for Kivi2 {
    type Lanes = [u8; LANES / 4];
    const SCALED: bool = true;
    const AFFINE: bool = true;

    #[inline(always)]
    fn load<S: Simd>(s: S, v: &Self::Lanes) -> S::F {
        s.to_float(s.load_u2(v))
    }
}
