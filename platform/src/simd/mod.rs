//! The instruction sets as one vector type: 16 lanes of `f32` or `i32`, and 64 bytes of codes.
//!
//! Kernels are written once against [`Simd`] and instantiated per instruction set by `kernels/`. A value of a type that
//! implements [`Simd`] proves that the machine has the instructions, so that the methods are safe to call.
//!
//! Invariant: every implementation gives the same bits as [`scalar::Scalar`], for every method and every input without
//! NaN. So multiply-adds are fused everywhere, minimum and maximum have the semantics of `a > b ? a : b`, and
//! reductions follow one tree (lane `i` with lane `i + 8`, then 4, 2, 1).

pub(crate) mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

/// Lanes of the logical vector, and rows of a weight tile.
pub(crate) const LANES: usize = 16;

/// `1.5 * 2^23`: adding it rounds a small float to an integer, to nearest even, in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Calls `$body` for `$r` = 0, 1, … below the constant `$n` of at most 16, or for those of 8 that are in a constant
/// range. Each `$r` is a constant, so that arrays indexed by it stay in registers, however the optimizer rates the size
/// of the loop.
///
/// The conditions are `const` blocks, here and in the kernels, so that the compiler drops excluded bodies before code
/// generation. Plain conditions leave 16 bodies to the optimizer, and 256 in two nested loops.
macro_rules! unroll {
    ($r:ident < $n:expr, $body:block) => {
        unroll!(@ $r, 0, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($g:ident in $first:ident..$end:ident of 8, $body:block) => {
        unroll!(@ $g, $first, $end, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $r:ident, $first:expr, $end:expr, $body:block, $($i:literal)*) => {
        $(if const { $first <= $i && $i < $end } { let $r: usize = $i; $body })*
    };
}
pub(crate) use unroll;

/// One instruction set. The module documents what all implementations have in common.
pub(crate) trait Simd: Copy {
    /// 16 floats.
    type F: Copy;
    /// 16 integers.
    type I: Copy;
    /// 64 unsigned bytes: 4 for each of 16 lanes.
    type B: Copy;

    /// Offset that [`Simd::dot`] subtracts from each 8-bit code before it multiplies.
    const U8_BIAS: i32;
    /// Rows of activations that the quantized product keeps in registers: a power of two, at most 16.
    const QUANT_ROWS: usize;
    /// The same for the float product.
    const FLOAT_ROWS: usize;
    /// Queries that share a load of keys or values: 6, 3 or 2.
    const QUERIES: usize;
    /// Vectors of values summed at once: 4 or 2.
    const VALUES: usize;

    /// Prefetches the memory `ahead` bytes after `of`, which need not exist.
    #[inline(always)]
    fn prefetch<T>(self, _of: &T, _ahead: usize) {}
    fn splat(self, v: f32) -> Self::F;
    fn load(self, v: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    /// Loads f16 bits.
    fn load_f16(self, v: &[u16; LANES]) -> Self::F;
    /// Rounds to nearest even. NaN becomes quiet.
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]);
    fn load_bf16(self, v: &[u16; LANES]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// Zero in lanes where `x < bound`, otherwise `v`.
    fn zero_below(self, x: Self::F, bound: f32, v: Self::F) -> Self::F;
    fn reduce_add(self, a: Self::F) -> f32;
    fn reduce_max(self, a: Self::F) -> f32;

    /// Nearest integer, ties to even, of floats below 2^22 in magnitude.
    fn round(self, a: Self::F) -> Self::I;
    /// `2^n` of floats that contain `n + ROUND`, -126 ≤ n ≤ 127.
    fn exp2_rounded(self, a: Self::F) -> Self::F;
    fn splat_i(self, v: i32) -> Self::I;
    fn reduce_add_i(self, a: Self::I) -> i32;
    fn to_float(self, a: Self::I) -> Self::F;
    /// Stores the low byte of each lane.
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]);

    /// Loads 16 signed bytes as integers.
    fn load_i8(self, v: &[i8; LANES]) -> Self::I;
    /// Loads 16 integers of 4 bits, 0 to 15: lane `i` is the low half of byte `i`, lane `i + 8` its high half.
    fn load_u4(self, v: &[u8; LANES / 2]) -> Self::I;
    /// Loads 16 integers of 2 bits, 0 to 3, from the lowest bits of the first byte up.
    fn load_u2(self, v: &[u8; LANES / 4]) -> Self::I;

    fn load_codes(self, v: &[u8; 64]) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// The bits `mask` of each byte after a shift to the right by `shift`, or to the left by `-shift`. The mask must
    /// exclude bits that cross from one byte to the next.
    fn field(self, v: Self::B, shift: i32, mask: u8) -> Self::B;
    /// A table of 16 bytes for [`Simd::lookup`].
    fn table(self, v: &[u8; 16]) -> Self::B;
    /// The table's byte at each index, at most 15.
    fn lookup(self, table: Self::B, index: Self::B) -> Self::B;
    /// `init[lane] + Σ (w[g][4 lane + i] - bias) * a[4 g + i]` over the groups `FIRST..LAST`, for codes of `BITS` bits.
    /// The bias is [`Simd::U8_BIAS`] for 8 bits and 0 for fewer. `a` contains -127 to 127.
    fn dot<const BITS: u32, const FIRST: usize, const LAST: usize>(
        self,
        init: Self::I,
        w: &[Self::B; 8],
        a: &[i8; 32],
    ) -> Self::I;
}

/// Operations that packing tiles needs. An instruction set without them uses those of a smaller one.
pub(crate) trait Transpose: Simd {
    /// Word `g`, of four bytes, of row `r` becomes lane `r` of vector `g`.
    fn transpose(self, rows: &[[u8; 32]; LANES]) -> [Self::B; 8];
    /// The first 16 bits of all lanes, then the second ones.
    fn unzip(self, v: Self::B) -> Self::B;
    fn store_codes(self, v: Self::B, out: &mut [u8; 64]);
}

/// Number of groups whose sums of products fit into 16 bits. Two products of a code of `bits` bits and an activation
/// are at most `2 * (2^bits - 1) * 127`, and 16 bits hold 32,767. Codes of 8 bits are summed otherwise, but a build
/// without optimization computes their number too.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn groups_in_16_bits(bits: u32) -> usize {
    if bits <= 4 { 8 } else { 1 << 7u32.saturating_sub(bits) }
}

/// Group `g` of four activations, as an integer of their bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn quad(a: &[i8; 32], g: usize) -> i32 {
    i32::from_ne_bytes([
        a[4 * g].cast_unsigned(),
        a[4 * g + 1].cast_unsigned(),
        a[4 * g + 2].cast_unsigned(),
        a[4 * g + 3].cast_unsigned(),
    ])
}
