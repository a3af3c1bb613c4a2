//! The kernel tables of AVX-512, with and without VNNI.

#![expect(unsafe_code, reason = "functions with these target features may assume them")]

/// Without VNNI.
pub(in crate::kernels) mod plain {
    use crate::simd::avx512::Avx512;

    crate::kernels::instantiate! {
        "avx512",
        crate::kernels::avx2_table::PACKS,
        // SAFETY: called only from functions with these target features, which run only on machines that have them.
        unsafe { Avx512::<false>::assume() },
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
    }
}

/// With VNNI, which products of codes use. All other kernels are those without it.
pub(in crate::kernels) mod vnni {
    use super::plain::TABLE;
    use crate::kernels::Kernels;
    use crate::simd::avx512::Avx512;

    crate::kernels::products! {
        // SAFETY: called only from functions with these target features, which run only on machines that have them.
        unsafe { Avx512::<true>::assume() },
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
    }

    pub(in crate::kernels) static KERNELS: Kernels =
        Kernels { name: "avx512vnni", products: PRODUCTS, ..TABLE };
}
