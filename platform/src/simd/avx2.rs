//! AVX2 with FMA and F16C: two 256-bit registers per vector.

#![expect(unsafe_code, reason = "vector instructions")]

use super::{LANES, ROUND, Simd, Transpose, groups_in_16_bits, quad, unroll};
use core::arch::x86_64::*;

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    #[inline(always)]
    pub(crate) const unsafe fn assume() -> Self {
        Self(())
    }

    /// Returns true if the machine has them.
    pub(crate) fn detect() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }
}

/// An expression of intrinsics.
macro_rules! isa {
    ($e:expr) => {
        // SAFETY: the value `self` proves the instruction set. Pointers come from references to arrays at least as wide
        // as the unaligned loads and stores.
        unsafe { $e }
    };
}

/// `[f(a.0, b.0), f(a.1, b.1)]`.
macro_rules! both {
    ($f:ident, $a:expr, $b:expr) => {
        isa!([$f($a[0], $b[0]), $f($a[1], $b[1])])
    };
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];

    const U8_BIAS: i32 = 128;
    const QUANT_ROWS: usize = 4;
    const FLOAT_ROWS: usize = 4;
    const QUERIES: usize = 3;
    const VALUES: usize = 2;

    #[inline(always)]
    fn prefetch<T>(self, of: &T, ahead: usize) {
        isa!(_mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(of).wrapping_byte_add(ahead).cast()));
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        isa!([_mm256_set1_ps(v); 2])
    }
    #[inline(always)]
    fn load(self, v: &[f32; LANES]) -> Self::F {
        isa!([_mm256_loadu_ps(v.as_ptr()), _mm256_loadu_ps(v.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        isa!({
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v[1]);
        });
    }
    #[inline(always)]
    fn load_f16(self, v: &[u16; LANES]) -> Self::F {
        isa!([
            _mm256_cvtph_ps(_mm_loadu_si128(v.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(v.as_ptr().add(8).cast())),
        ])
    }
    #[inline(always)]
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]) {
        isa!({
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]);
            _mm_storeu_si128(out.as_mut_ptr().cast(), half);
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]);
            _mm_storeu_si128(out.as_mut_ptr().add(8).cast(), half);
        });
    }
    #[inline(always)]
    fn load_bf16(self, v: &[u16; LANES]) -> Self::F {
        isa!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(v.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(v.as_ptr().add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        isa!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        isa!({
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        })
    }
    #[inline(always)]
    fn zero_below(self, x: Self::F, bound: f32, v: Self::F) -> Self::F {
        isa!({
            let bound = _mm256_set1_ps(bound);
            [
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x[0], bound), v[0]),
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x[1], bound), v[1]),
            ]
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        isa!({
            let v = _mm256_add_ps(a[0], a[1]);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        isa!({
            let v = _mm256_max_ps(a[0], a[1]);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        isa!({
            let magic = _mm256_set1_ps(ROUND);
            let bits = _mm256_castps_si256(magic);
            [
                _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(a[0], magic)), bits),
                _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(a[1], magic)), bits),
            ]
        })
    }
    #[inline(always)]
    fn exp2_rounded(self, a: Self::F) -> Self::F {
        isa!({
            let one = _mm256_castps_si256(_mm256_set1_ps(1.0));
            let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(a[0]));
            let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(a[1]));
            [
                _mm256_castsi256_ps(_mm256_add_epi32(low, one)),
                _mm256_castsi256_ps(_mm256_add_epi32(high, one)),
            ]
        })
    }
    #[inline(always)]
    fn splat_i(self, v: i32) -> Self::I {
        isa!([_mm256_set1_epi32(v); 2])
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        isa!({
            let v = _mm256_add_epi32(a[0], a[1]);
            let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
            _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v)))
        })
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        isa!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }
    #[inline(always)]
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]) {
        isa!({
            let byte = _mm256_set1_epi32(255);
            let words = _mm256_packus_epi32(_mm256_and_si256(a[0], byte), _mm256_and_si256(a[1], byte));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        });
    }

    #[inline(always)]
    fn load_i8(self, v: &[i8; LANES]) -> Self::I {
        isa!({
            let bytes = _mm_loadu_si128(v.as_ptr().cast());
            [_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))]
        })
    }
    #[inline(always)]
    fn load_u4(self, v: &[u8; LANES / 2]) -> Self::I {
        isa!({
            let pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64(v.as_ptr().cast()));
            [_mm256_and_si256(pairs, _mm256_set1_epi32(15)), _mm256_srli_epi32::<4>(pairs)]
        })
    }
    #[inline(always)]
    fn load_u2(self, v: &[u8; LANES / 4]) -> Self::I {
        isa!({
            let word = _mm256_set1_epi32(i32::from_le_bytes(*v));
            let low = _mm256_srlv_epi32(word, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
            let high = _mm256_srlv_epi32(word, _mm256_setr_epi32(16, 18, 20, 22, 24, 26, 28, 30));
            let mask = _mm256_set1_epi32(3);
            [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)]
        })
    }

    #[inline(always)]
    fn load_codes(self, v: &[u8; 64]) -> Self::B {
        isa!([_mm256_loadu_si256(v.as_ptr().cast()), _mm256_loadu_si256(v.as_ptr().add(32).cast())])
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn field(self, v: Self::B, shift: i32, mask: u8) -> Self::B {
        // After inlining the count is a constant: one instruction per register.
        isa!({
            let v = match shift {
                0 => v,
                1.. => {
                    let count = _mm_cvtsi32_si128(shift);
                    [_mm256_srl_epi16(v[0], count), _mm256_srl_epi16(v[1], count)]
                }
                _ => {
                    let count = _mm_cvtsi32_si128(-shift);
                    [_mm256_sll_epi16(v[0], count), _mm256_sll_epi16(v[1], count)]
                }
            };
            let mask = _mm256_set1_epi8(mask.cast_signed());
            [_mm256_and_si256(v[0], mask), _mm256_and_si256(v[1], mask)]
        })
    }
    #[inline(always)]
    fn table(self, v: &[u8; 16]) -> Self::B {
        isa!([_mm256_broadcastsi128_si256(_mm_loadu_si128(v.as_ptr().cast())); 2])
    }
    #[inline(always)]
    fn lookup(self, table: Self::B, index: Self::B) -> Self::B {
        both!(_mm256_shuffle_epi8, table, index)
    }
    #[inline(always)]
    fn dot<const BITS: u32, const FIRST: usize, const LAST: usize>(
        self,
        init: Self::I,
        w: &[Self::B; 8],
        a: &[i8; 32],
    ) -> Self::I {
        let mut sum = init;
        let ones = isa!(_mm256_set1_epi16(1));
        if const { BITS == 8 } {
            // Codes less 128 are signed. Their magnitude, at most 128, is multiplied by an activation that takes their
            // sign. A sum of two is at most 2 * 128 * 127 = 32,512, so the saturating instruction never saturates.
            unroll!(g in FIRST..LAST of 8, {
                isa!({
                    let flip = _mm256_set1_epi8(-128);
                    let a = _mm256_set1_epi32(quad(a, g));
                    for (sum, w) in sum.iter_mut().zip(w[g]) {
                        let w = _mm256_xor_si256(w, flip);
                        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                    }
                });
            });
            return sum;
        }
        let mut pairs = isa!([_mm256_setzero_si256(); 2]);
        unroll!(g in FIRST..LAST of 8, {
            isa!({
                if (g - FIRST).is_multiple_of(const { groups_in_16_bits(BITS) }) {
                    pairs = [_mm256_setzero_si256(); 2];
                }
                let a = _mm256_set1_epi32(quad(a, g));
                pairs[0] = _mm256_add_epi16(pairs[0], _mm256_maddubs_epi16(w[g][0], a));
                pairs[1] = _mm256_add_epi16(pairs[1], _mm256_maddubs_epi16(w[g][1], a));
                if (g + 1 - FIRST).is_multiple_of(const { groups_in_16_bits(BITS) }) || g + 1 == LAST {
                    sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(pairs[0], ones));
                    sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(pairs[1], ones));
                }
            });
        });
        sum
    }
}

impl Transpose for Avx2 {
    #[inline(always)]
    fn transpose(self, rows: &[[u8; 32]; LANES]) -> [Self::B; 8] {
        let mut half = isa!([[_mm256_setzero_si256(); 8]; 2]);
        unroll!(r < 16, {
            half[r / 8][r % 8] = isa!(_mm256_loadu_si256(rows[r].as_ptr().cast()));
        });
        let [a, b] = [transpose_8(half[0]), transpose_8(half[1])];
        [
            [a[0], b[0]],
            [a[1], b[1]],
            [a[2], b[2]],
            [a[3], b[3]],
            [a[4], b[4]],
            [a[5], b[5]],
            [a[6], b[6]],
            [a[7], b[7]],
        ]
    }
    #[inline(always)]
    fn unzip(self, v: Self::B) -> Self::B {
        isa!({
            let low = _mm256_set1_epi32(0xffff);
            let first = _mm256_packus_epi32(_mm256_and_si256(v[0], low), _mm256_and_si256(v[1], low));
            let second = _mm256_packus_epi32(_mm256_srli_epi32::<16>(v[0]), _mm256_srli_epi32::<16>(v[1]));
            [
                _mm256_permute4x64_epi64::<0b11_01_10_00>(first),
                _mm256_permute4x64_epi64::<0b11_01_10_00>(second),
            ]
        })
    }
    #[inline(always)]
    fn store_codes(self, v: Self::B, out: &mut [u8; 64]) {
        isa!({
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(32).cast(), v[1]);
        });
    }
}

/// 8 rows of 8 words: word `c` of row `r` becomes word `r` of row `c`.
#[inline(always)]
fn transpose_8(x: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: called only by methods of `Avx2`, whose value proves the instruction set.
    unsafe {
        let pairs = [
            _mm256_unpacklo_epi32(x[0], x[1]),
            _mm256_unpackhi_epi32(x[0], x[1]),
            _mm256_unpacklo_epi32(x[2], x[3]),
            _mm256_unpackhi_epi32(x[2], x[3]),
            _mm256_unpacklo_epi32(x[4], x[5]),
            _mm256_unpackhi_epi32(x[4], x[5]),
            _mm256_unpacklo_epi32(x[6], x[7]),
            _mm256_unpackhi_epi32(x[6], x[7]),
        ];
        let fours = [
            _mm256_unpacklo_epi64(pairs[0], pairs[2]),
            _mm256_unpackhi_epi64(pairs[0], pairs[2]),
            _mm256_unpacklo_epi64(pairs[1], pairs[3]),
            _mm256_unpackhi_epi64(pairs[1], pairs[3]),
            _mm256_unpacklo_epi64(pairs[4], pairs[6]),
            _mm256_unpackhi_epi64(pairs[4], pairs[6]),
            _mm256_unpacklo_epi64(pairs[5], pairs[7]),
            _mm256_unpackhi_epi64(pairs[5], pairs[7]),
        ];
        [
            _mm256_permute2x128_si256::<0x20>(fours[0], fours[4]),
            _mm256_permute2x128_si256::<0x20>(fours[1], fours[5]),
            _mm256_permute2x128_si256::<0x20>(fours[2], fours[6]),
            _mm256_permute2x128_si256::<0x20>(fours[3], fours[7]),
            _mm256_permute2x128_si256::<0x31>(fours[0], fours[4]),
            _mm256_permute2x128_si256::<0x31>(fours[1], fours[5]),
            _mm256_permute2x128_si256::<0x31>(fours[2], fours[6]),
            _mm256_permute2x128_si256::<0x31>(fours[3], fours[7]),
        ]
    }
}
