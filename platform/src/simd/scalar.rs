//! Plain Rust: the definition that the other instruction sets must equal, and the fallback of every machine.
//!
//! Operations that take many instructions per lane without vectors (f16 conversions, fused multiply-adds, dot products)
//! are functions of their own. Inlined into every kernel they were half of the crate's code.

use super::{LANES, ROUND, Simd, Transpose};
use core::array::from_fn;
use half::f16;

/// Every machine can run it.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn tree<T: Copy>(mut v: [T; LANES], op: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            v[i] = op(v[i], v[i + width]);
        }
        width /= 2;
    }
    v[0]
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Simd for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const U8_BIAS: i32 = 0;
    const QUANT_ROWS: usize = 2;
    const FLOAT_ROWS: usize = 2;
    const QUERIES: usize = 2;
    const VALUES: usize = 2;

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    fn load(self, v: &[f32; LANES]) -> Self::F {
        *v
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(never)]
    fn load_f16(self, v: &[u16; LANES]) -> Self::F {
        from_fn(|i| f16::from_bits(v[i]).to_f32_const())
    }
    #[inline(never)]
    fn store_f16(self, v: Self::F, out: &mut [u16; LANES]) {
        for (o, v) in out.iter_mut().zip(v) {
            *o = f16::from_f32_const(v).to_bits();
        }
    }
    #[inline(always)]
    fn load_bf16(self, v: &[u16; LANES]) -> Self::F {
        from_fn(|i| f32::from_bits(u32::from(v[i]) << 16))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(never)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| larger(a[i], b[i]))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn zero_below(self, x: Self::F, bound: f32, v: Self::F) -> Self::F {
        from_fn(|i| if x[i] < bound { 0.0 } else { v[i] })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        tree(a, |a, b| a + b)
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        tree(a, larger)
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        a.map(|v| (v + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed())
    }
    #[inline(always)]
    fn exp2_rounded(self, a: Self::F) -> Self::F {
        a.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(1.0f32.to_bits())))
    }
    #[inline(always)]
    fn splat_i(self, v: i32) -> Self::I {
        [v; LANES]
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        tree(a, i32::wrapping_add)
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        a.map(|v| v as f32)
    }
    #[inline(always)]
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]) {
        *out = a.map(|v| v as i8);
    }

    #[inline(always)]
    fn load_i8(self, v: &[i8; LANES]) -> Self::I {
        v.map(i32::from)
    }
    #[inline(always)]
    fn load_u4(self, v: &[u8; LANES / 2]) -> Self::I {
        from_fn(|i| i32::from(v[i % 8] >> (i / 8 * 4) & 15))
    }
    #[inline(always)]
    fn load_u2(self, v: &[u8; LANES / 4]) -> Self::I {
        from_fn(|i| i32::from(v[i / 4] >> (i % 4 * 2) & 3))
    }

    #[inline(always)]
    fn load_codes(self, v: &[u8; 64]) -> Self::B {
        *v
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn field(self, v: Self::B, shift: i32, mask: u8) -> Self::B {
        v.map(|b| if shift < 0 { b << -shift } else { b >> shift } & mask)
    }
    #[inline(always)]
    fn table(self, v: &[u8; 16]) -> Self::B {
        from_fn(|i| v[i % 16])
    }
    #[inline(always)]
    fn lookup(self, table: Self::B, index: Self::B) -> Self::B {
        index.map(|i| table[usize::from(i & 15)])
    }
    #[inline(always)]
    fn dot<const BITS: u32, const FIRST: usize, const LAST: usize>(
        self,
        mut init: Self::I,
        w: &[Self::B; 8],
        a: &[i8; 32],
    ) -> Self::I {
        add_products(&mut init, &w[FIRST..LAST], &a.as_chunks().0[FIRST..LAST]);
        init
    }
}

impl Transpose for Scalar {
    #[inline(always)]
    fn transpose(self, rows: &[[u8; 32]; LANES]) -> [Self::B; 8] {
        let mut out = [[0; 64]; 8];
        for (r, row) in rows.iter().enumerate() {
            for (out, word) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                out.as_chunks_mut().0[r] = *word;
            }
        }
        out
    }
    #[inline(always)]
    fn unzip(self, v: Self::B) -> Self::B {
        let mut out = [0; 64];
        let (first, second) = out.as_chunks_mut::<2>().0.split_at_mut(LANES);
        for ((first, second), lane) in first.iter_mut().zip(second).zip(v.as_chunks::<4>().0) {
            [first[0], first[1], second[0], second[1]] = *lane;
        }
        out
    }
    #[inline(always)]
    fn store_codes(self, v: Self::B, out: &mut [u8; 64]) {
        *out = v;
    }
}

/// Adds to each lane the products of its codes with the activations, over all groups.
#[inline(never)]
fn add_products(sums: &mut [i32; LANES], groups: &[[u8; 64]], a: &[[i8; 4]]) {
    for (codes, a) in groups.iter().zip(a) {
        for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (code, a) in codes.iter().zip(a) {
                *sum += i32::from(*code) * i32::from(*a);
            }
        }
    }
}
