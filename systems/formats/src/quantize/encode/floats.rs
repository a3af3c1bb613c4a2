//! Encoders of F32, F16 and BF16: values are rounded to the nearest, ties to even.

use half::{bf16, f16};

/// Writes F32 values; never `None`.
pub(super) fn f32(x: &[f32], out: &mut [u8]) -> Option<()> {
    for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(x) {
        *bytes = value.to_le_bytes();
    }
    Some(())
}

/// Writes F16 values; `None` if one exceeds the f16 range.
pub(super) fn f16(x: &[f32], out: &mut [u8]) -> Option<()> {
    let mut finite = true;
    for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(x) {
        let half = f16::from_f32(*value);
        finite &= half.is_finite();
        *bytes = half.to_le_bytes();
    }
    finite.then_some(())
}

/// Writes BF16 values; `None` if one rounds to infinity.
pub(super) fn bf16(x: &[f32], out: &mut [u8]) -> Option<()> {
    let mut finite = true;
    for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(x) {
        let half = bf16::from_f32(*value);
        finite &= half.is_finite();
        *bytes = half.to_le_bytes();
    }
    finite.then_some(())
}
