//! Rows of activations times tiles of weights.
//!
//! Sums run over the columns in one order, block of 32 by block of 32, whatever the number of rows: a row's result
//! does not depend on its company.

use crate::activations::{Activations, QuantPanel};
use crate::simd::{LANES, Simd, unroll};
use crate::threads::Shared;
use crate::tile::CpuMatrix;
use core::ops::Range;
use weft_components::CODES;

/// Tiles `tiles` of `matrix` times every row of `acts`.
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a CpuMatrix,
    pub(crate) tiles: Range<usize>,
    pub(crate) acts: &'a Activations,
    /// Where output 0 of the matrix goes in row 0.
    pub(crate) out: Shared<f32>,
    /// Floats from one row of the output to the next.
    pub(crate) stride: usize,
}

impl Product<'_> {
    /// Stores the lanes of `tile` that are rows of the matrix.
    #[inline(always)]
    #[expect(unsafe_code, reason = "threads write disjoint columns of one output")]
    fn store<S: Simd>(&self, s: S, row: usize, tile: usize, v: S::F) {
        let column = tile * LANES;
        // SAFETY: whoever made the product has checked that every row of the output holds all of the matrix's
        // columns, and gives each tile to one product only, so nobody else touches these floats.
        let out = unsafe { self.out.0.add(row * self.stride + column) };
        let valid = self.matrix.rows() - column;
        if valid >= LANES {
            // SAFETY: as above, for 16 columns.
            s.store(v, unsafe { &mut *out.cast::<[f32; LANES]>() });
        } else {
            let mut values = [0.0; LANES];
            s.store(v, &mut values);
            // SAFETY: as above, for the columns that there are.
            unsafe { core::slice::from_raw_parts_mut(out, valid) }.copy_from_slice(&values[..valid]);
        }
    }
}

/// A quantized tile layout.
pub(crate) trait QuantTile {
    /// Bytes of the codes of a block.
    const BYTES: usize;
    /// Whether each scale has a minimum.
    const MIN: bool;
    /// What `dot` subtracts from each code.
    fn bias<S: Simd>() -> i32;
    fn unpack<S: Simd>(s: S, codes: &[[u8; 64]]) -> [S::B; 8];
    fn dot<S: Simd>(s: S, init: S::I, w: &[S::B; 8], a: &[i8; CODES]) -> S::I;
}

/// Codes of 4 bits, with or without minimums.
pub(crate) struct Nibbles<const MIN: bool>;
pub(crate) type U4 = Nibbles<false>;
pub(crate) type U4Min = Nibbles<true>;
pub(crate) struct U8;

#[inline(always)]
fn unpack_nibbles<S: Simd>(s: S, codes: &[[u8; 64]]) -> [S::B; 8] {
    let packed =
        [s.load_codes(&codes[0]), s.load_codes(&codes[1]), s.load_codes(&codes[2]), s.load_codes(&codes[3])];
    [
        s.low_nibbles(packed[0]),
        s.low_nibbles(packed[1]),
        s.low_nibbles(packed[2]),
        s.low_nibbles(packed[3]),
        s.high_nibbles(packed[0]),
        s.high_nibbles(packed[1]),
        s.high_nibbles(packed[2]),
        s.high_nibbles(packed[3]),
    ]
}

impl<const MIN: bool> QuantTile for Nibbles<MIN> {
    const BYTES: usize = 256;
    const MIN: bool = MIN;
    #[inline(always)]
    fn bias<S: Simd>() -> i32 {
        0
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, codes: &[[u8; 64]]) -> [S::B; 8] {
        unpack_nibbles(s, codes)
    }
    #[inline(always)]
    fn dot<S: Simd>(s: S, init: S::I, w: &[S::B; 8], a: &[i8; CODES]) -> S::I {
        s.dot_u4(init, w, a)
    }
}

impl QuantTile for U8 {
    const BYTES: usize = 512;
    const MIN: bool = false;
    #[inline(always)]
    fn bias<S: Simd>() -> i32 {
        S::U8_BIAS
    }
    #[inline(always)]
    fn unpack<S: Simd>(s: S, codes: &[[u8; 64]]) -> [S::B; 8] {
        [
            s.load_codes(&codes[0]),
            s.load_codes(&codes[1]),
            s.load_codes(&codes[2]),
            s.load_codes(&codes[3]),
            s.load_codes(&codes[4]),
            s.load_codes(&codes[5]),
            s.load_codes(&codes[6]),
            s.load_codes(&codes[7]),
        ]
    }
    #[inline(always)]
    fn dot<S: Simd>(s: S, init: S::I, w: &[S::B; 8], a: &[i8; CODES]) -> S::I {
        s.dot_u8(init, w, a)
    }
}

/// One tile times rows `first..first + R` of a panel.
#[inline(always)]
fn quant_rows<S: Simd, L: QuantTile, const R: usize>(
    s: S,
    codes: &[u8],
    scales: &[u16],
    zero: i32,
    panel: &QuantPanel<'_>,
    first: usize,
) -> [S::F; R] {
    let h = panel.height;
    let zero = s.splat_i(zero);
    let mut acc = [s.splat(0.0); R];
    let weights =
        codes.chunks_exact(L::BYTES).zip(scales.chunks_exact(if L::MIN { 2 * LANES } else { LANES }));
    let rows = panel.codes.chunks_exact(h).zip(panel.scales.chunks_exact(h));
    let sums = panel.sums.chunks_exact(h).zip(panel.offsets.chunks_exact(h));
    for (((codes, scales), (rows, row_scales)), (sums, offsets)) in weights.zip(rows).zip(sums) {
        let (Some(rows), Some(row_scales), Some(sums), Some(offsets)) = (
            rows[first..].first_chunk::<R>(),
            row_scales[first..].first_chunk::<R>(),
            sums[first..].first_chunk::<R>(),
            offsets[first..].first_chunk::<R>(),
        ) else {
            break;
        };
        let w = L::unpack(s, codes.as_chunks::<64>().0);
        let (scales, _) = scales.as_chunks::<LANES>();
        let scale = s.load_f16(&scales[0]);
        let min = if L::MIN { s.load_f16(&scales[1]) } else { scale };
        unroll!(r < R, {
            let init = if L::MIN { s.splat_i(0) } else { s.mul_i(s.splat_i(sums[r]), zero) };
            let dot = s.to_float(L::dot(s, init, &w, &rows[r]));
            acc[r] = s.fma(s.mul(scale, s.splat(row_scales[r])), dot, acc[r]);
            if L::MIN {
                acc[r] = s.fma(min, s.splat(offsets[r]), acc[r]);
            }
        });
    }
    acc
}

/// The product with weights in a quantized layout.
#[inline(always)]
pub(crate) fn quant<S: Simd, L: QuantTile>(s: S, product: &Product<'_>) {
    let matrix = product.matrix;
    let zero = L::bias::<S>() - i32::from(matrix.zero_point());
    for tile in product.tiles.clone() {
        let (codes, scales) = (matrix.tile(tile), matrix.tile_scales(tile));
        let mut first = 0;
        while first < product.acts.rows() {
            let panel = product.acts.quant_panel(first);
            let mut row = 0;
            macro_rules! rows {
                ($n:literal) => {
                    while S::QUANT_ROWS >= $n && panel.height - row >= $n {
                        let acc = quant_rows::<S, L, $n>(s, codes, scales, zero, &panel, row);
                        unroll!(r < $n, {
                            product.store(s, first + row + r, tile, acc[r]);
                        });
                        row += $n;
                    }
                };
            }
            rows!(16);
            rows!(8);
            rows!(4);
            rows!(2);
            rows!(1);
            first += panel.height;
        }
    }
}

/// A float tile layout.
pub(crate) trait FloatTile {
    /// How a value is stored.
    type Value: bytemuck::Pod;
    fn load<S: Simd>(s: S, v: &[Self::Value; LANES]) -> S::F;
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl FloatTile for F32 {
    type Value = f32;
    #[inline(always)]
    fn load<S: Simd>(s: S, v: &[f32; LANES]) -> S::F {
        s.load(v)
    }
}

impl FloatTile for F16 {
    type Value = u16;
    #[inline(always)]
    fn load<S: Simd>(s: S, v: &[u16; LANES]) -> S::F {
        s.load_f16(v)
    }
}

impl FloatTile for Bf16 {
    type Value = u16;
    #[inline(always)]
    fn load<S: Simd>(s: S, v: &[u16; LANES]) -> S::F {
        s.load_bf16(v)
    }
}

/// One tile times rows `first..first + R` of a panel of `h`. Each 32 columns are summed apart, which lets blocks
/// overlap and rounds less than one long sum.
#[inline(always)]
fn float_rows<S: Simd, L: FloatTile, const R: usize>(
    s: S,
    values: &[[L::Value; LANES]],
    panel: &[f32],
    h: usize,
    first: usize,
) -> [S::F; R] {
    let mut acc = [s.splat(0.0); R];
    for (values, panel) in values.chunks(CODES).zip(panel.chunks(CODES * h)) {
        let mut part = [s.splat(0.0); R];
        for (values, rows) in values.iter().zip(panel.chunks_exact(h)) {
            let Some(rows) = rows[first..].first_chunk::<R>() else {
                break;
            };
            let w = L::load(s, values);
            unroll!(r < R, {
                part[r] = s.fma(w, s.splat(rows[r]), part[r]);
            });
        }
        unroll!(r < R, {
            acc[r] = s.add(acc[r], part[r]);
        });
    }
    acc
}

/// The product with weights in a float layout.
#[inline(always)]
pub(crate) fn float<S: Simd, L: FloatTile>(s: S, product: &Product<'_>) {
    for tile in product.tiles.clone() {
        let (values, _) =
            bytemuck::cast_slice::<u8, L::Value>(product.matrix.tile(tile)).as_chunks::<LANES>();
        let mut first = 0;
        while first < product.acts.rows() {
            let (panel, h) = (product.acts.float_panel(first), product.acts.height(first));
            let mut row = 0;
            macro_rules! rows {
                ($n:literal) => {
                    while S::FLOAT_ROWS >= $n && h - row >= $n {
                        let acc = float_rows::<S, L, $n>(s, values, panel, h, row);
                        unroll!(r < $n, {
                            product.store(s, first + row + r, tile, acc[r]);
                        });
                        row += $n;
                    }
                };
            }
            rows!(8);
            rows!(4);
            rows!(2);
            rows!(1);
            first += h;
        }
    }
}
