//! AVX-512: one `__m512` per vector. With VNNI one instruction sums four products, without it three do.

#![expect(unsafe_code, reason = "vector instructions")]

use super::{LANES, ROUND, Simd, groups_in_16_bits, quad, unroll};
use core::arch::x86_64::*;

/// Proof that the machine has AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C, and AVX-512 VNNI if `VNNI`.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// # Safety
    /// The machine has the instruction sets that the type proves.
    #[inline(always)]
    pub(crate) const unsafe fn assume() -> Self {
        Self(())
    }

    /// Returns true if the machine has them.
    pub(crate) fn detect() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"))
    }
}

/// An expression of intrinsics.
macro_rules! isa {
    ($e:expr) => {
        // SAFETY: the value `self` proves the instruction set. Pointers come from references to arrays of the width of
        // the unaligned load or store.
        unsafe { $e }
    };
}

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    const U8_BIAS: i32 = if VNNI { 0 } else { 128 };
    const QUANT_ROWS: usize = if VNNI { 16 } else { 8 };
    const FLOAT_ROWS: usize = 8;
    const QUERIES: usize = 6;
    const VALUES: usize = 4;

    #[inline(always)]
    fn prefetch<T>(self, of: &T, ahead: usize) {
        isa!(_mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(of).wrapping_byte_add(ahead).cast()));
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        isa!(_mm512_set1_ps(v))
    }
    #[inline(always)]
    fn load(self, v: &[f32; LANES]) -> Self::F {
        isa!(_mm512_loadu_ps(v.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        isa!(_mm512_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn load_f16(self, v: &[u16; LANES]) -> Self::F {
        isa!(_mm512_cvtph_ps(_mm256_loadu_si256(v.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]) {
        isa!(_mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)));
    }
    #[inline(always)]
    fn load_bf16(self, v: &[u16; LANES]) -> Self::F {
        isa!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
            v.as_ptr().cast()
        )))))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        isa!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        isa!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        isa!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        isa!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        isa!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        isa!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn zero_below(self, x: Self::F, bound: f32, v: Self::F) -> Self::F {
        isa!(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(bound)), v))
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        isa!({
            let v = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        isa!({
            let v = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        isa!({
            let magic = _mm512_set1_ps(ROUND);
            _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(a, magic)), _mm512_castps_si512(magic))
        })
    }
    #[inline(always)]
    fn exp2_rounded(self, a: Self::F) -> Self::F {
        isa!(_mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_slli_epi32::<23>(_mm512_castps_si512(a)),
            _mm512_castps_si512(_mm512_set1_ps(1.0))
        )))
    }
    #[inline(always)]
    fn splat_i(self, v: i32) -> Self::I {
        isa!(_mm512_set1_epi32(v))
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        isa!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        isa!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]) {
        isa!(_mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a)));
    }

    #[inline(always)]
    fn load_i8(self, v: &[i8; LANES]) -> Self::I {
        isa!(_mm512_cvtepi8_epi32(_mm_loadu_si128(v.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_u4(self, v: &[u8; LANES / 2]) -> Self::I {
        isa!({
            let pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64(v.as_ptr().cast()));
            let low = _mm256_and_si256(pairs, _mm256_set1_epi32(15));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), _mm256_srli_epi32::<4>(pairs))
        })
    }
    #[inline(always)]
    fn load_u2(self, v: &[u8; LANES / 4]) -> Self::I {
        isa!({
            let word = _mm512_set1_epi32(i32::from_le_bytes(*v));
            let shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_and_si512(_mm512_srlv_epi32(word, shifts), _mm512_set1_epi32(3))
        })
    }

    #[inline(always)]
    fn load_codes(self, v: &[u8; 64]) -> Self::B {
        isa!(_mm512_loadu_si512(v.as_ptr().cast()))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        isa!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn field(self, v: Self::B, shift: i32, mask: u8) -> Self::B {
        // After inlining the count is a constant: one instruction.
        isa!({
            let v = match shift {
                0 => v,
                1.. => _mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)),
                _ => _mm512_sll_epi16(v, _mm_cvtsi32_si128(-shift)),
            };
            _mm512_and_si512(v, _mm512_set1_epi8(mask.cast_signed()))
        })
    }
    #[inline(always)]
    fn table(self, v: &[u8; 16]) -> Self::B {
        isa!(_mm512_broadcast_i32x4(_mm_loadu_si128(v.as_ptr().cast())))
    }
    #[inline(always)]
    fn lookup(self, table: Self::B, index: Self::B) -> Self::B {
        isa!(_mm512_shuffle_epi8(table, index))
    }
    #[inline(always)]
    fn dot<const BITS: u32, const FIRST: usize, const LAST: usize>(
        self,
        init: Self::I,
        w: &[Self::B; 8],
        a: &[i8; 32],
    ) -> Self::I {
        let mut sum = init;
        if const { VNNI } {
            unroll!(g in FIRST..LAST of 8, {
                sum = isa!(_mm512_dpbusd_epi32(sum, w[g], _mm512_set1_epi32(quad(a, g))));
            });
            return sum;
        }
        let ones = isa!(_mm512_set1_epi16(1));
        if const { BITS == 8 } {
            // Codes less 128 are signed. Their magnitude, at most 128, is multiplied by an activation that takes their
            // sign. A sum of two is at most 2 * 128 * 127 = 32,512, so the saturating instruction never saturates.
            unroll!(g in FIRST..LAST of 8, {
                sum = isa!({
                    let w = _mm512_xor_si512(w[g], _mm512_set1_epi8(-128));
                    let a = _mm512_set1_epi32(quad(a, g));
                    let a = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(w), _mm512_setzero_si512(), a);
                    let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), a);
                    _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones))
                });
            });
            return sum;
        }
        let mut pairs = isa!(_mm512_setzero_si512());
        unroll!(g in FIRST..LAST of 8, {
            isa!({
                if (g - FIRST).is_multiple_of(const { groups_in_16_bits(BITS) }) {
                    pairs = _mm512_setzero_si512();
                }
                let products = _mm512_maddubs_epi16(w[g], _mm512_set1_epi32(quad(a, g)));
                pairs = _mm512_add_epi16(pairs, products);
                if (g + 1 - FIRST).is_multiple_of(const { groups_in_16_bits(BITS) }) || g + 1 == LAST {
                    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones));
                }
            });
        });
        sum
    }
}
