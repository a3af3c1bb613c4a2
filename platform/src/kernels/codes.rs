//! Unpacks the codes of a tile's block from planes of bits to one byte each. `crate::tile::code_planes` documents the
//! planes.

use crate::simd::Simd;
use crate::tile::code_planes::{VECTOR, planes};
use weft_components::CODES;

/// How the codes of a layout become the factors of a product.
pub(crate) trait Codes {
    /// Vectors in a block.
    const VECTORS: usize;
    /// Bits of the results of [`Codes::unpack`].
    const BITS: u32;
    /// Unpacks the 8 groups of a block. `table` is the format's.
    fn unpack<S: Simd>(s: S, block: &[[u8; VECTOR]], table: S::B) -> [S::B; 8];
    /// [`Simd::dot`] with the unpacked codes.
    fn dot<S: Simd, const FIRST: usize, const LAST: usize>(
        s: S,
        init: S::I,
        w: &[S::B; 8],
        a: &[i8; CODES],
    ) -> S::I;
}

/// Codes of `BITS` bits that are factors themselves.
pub(crate) struct Plain<const BITS: u32>;

impl<const BITS: u32> Codes for Plain<BITS> {
    const VECTORS: usize = BITS as usize;
    const BITS: u32 = BITS;
    #[inline(always)]
    fn unpack<S: Simd>(s: S, block: &[[u8; VECTOR]], _table: S::B) -> [S::B; 8] {
        unpack::<S, BITS>(s, block)
    }
    #[inline(always)]
    fn dot<S: Simd, const FIRST: usize, const LAST: usize>(
        s: S,
        init: S::I,
        w: &[S::B; 8],
        a: &[i8; CODES],
    ) -> S::I {
        s.dot::<BITS, FIRST, LAST>(init, w, a)
    }
}

/// Codes of `BITS` bits that index a table, whose values are below `2^DOT`.
pub(crate) struct Named<const BITS: u32, const DOT: u32>;

impl<const BITS: u32, const DOT: u32> Codes for Named<BITS, DOT> {
    const VECTORS: usize = BITS as usize;
    const BITS: u32 = DOT;
    #[inline(always)]
    fn unpack<S: Simd>(s: S, block: &[[u8; VECTOR]], table: S::B) -> [S::B; 8] {
        let v = unpack::<S, BITS>(s, block);
        [
            s.lookup(table, v[0]),
            s.lookup(table, v[1]),
            s.lookup(table, v[2]),
            s.lookup(table, v[3]),
            s.lookup(table, v[4]),
            s.lookup(table, v[5]),
            s.lookup(table, v[6]),
            s.lookup(table, v[7]),
        ]
    }
    #[inline(always)]
    fn dot<S: Simd, const FIRST: usize, const LAST: usize>(
        s: S,
        init: S::I,
        w: &[S::B; 8],
        a: &[i8; CODES],
    ) -> S::I {
        s.dot::<DOT, FIRST, LAST>(init, w, a)
    }
}

#[inline(always)]
fn unpack<S: Simd, const BITS: u32>(s: S, block: &[[u8; VECTOR]]) -> [S::B; 8] {
    [
        group::<S, BITS>(s, block, 0),
        group::<S, BITS>(s, block, 1),
        group::<S, BITS>(s, block, 2),
        group::<S, BITS>(s, block, 3),
        group::<S, BITS>(s, block, 4),
        group::<S, BITS>(s, block, 5),
        group::<S, BITS>(s, block, 6),
        group::<S, BITS>(s, block, 7),
    ]
}

/// The codes of one group of columns.
#[inline(always)]
fn group<S: Simd, const BITS: u32>(s: S, block: &[[u8; VECTOR]], g: usize) -> S::B {
    let [low, high] = const { planes(BITS as usize) };
    let codes = field(s, low, block, g, 0);
    if high == 0 { codes } else { s.or(codes, field(s, high, &block[low..], g, low)) }
}

/// The bits of a group in a plane of `bits` bits, shifted to bit `to` of their bytes.
#[inline(always)]
fn field<S: Simd>(s: S, bits: usize, plane: &[[u8; VECTOR]], g: usize, to: usize) -> S::B {
    let vector = s.load_codes(&plane[g % bits]);
    if bits == 8 {
        return vector;
    }
    let mask = ((1u32 << bits) - 1) << to;
    s.field(vector, (g / bits * bits) as i32 - to as i32, mask as u8)
}
