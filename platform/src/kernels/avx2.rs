//! AVX2 with FMA and F16C.

#![expect(unsafe_code, reason = "functions with these target features may assume them")]

use crate::simd::avx2::Avx2;

crate::kernels::instantiate! {
    "avx2",
    // SAFETY: called only from functions with these target features, which only a machine that has them runs.
    unsafe { Avx2::assume() },
    "avx2,fma,f16c"
}
