//! Multiplies rows of activations by tiles of weights.
//!
//! Sums go over the columns in one fixed order, in blocks of 32, for any number of rows. A row's result does not depend
//! on the other rows.

use super::codes::{Codes, Named};
use super::scales::Scales;
use crate::activations::Activations;
use crate::quant_panel::QuantPanel;
use crate::shared::Shared;
use crate::simd::{LANES, Simd, unroll};
use crate::tile::code_planes::VECTOR;
use crate::tile::cpu_matrix::CpuMatrix;
use core::ops::Range;
use weft_components::CODES;

/// Tiles `tiles` of `matrix` times every row of `acts`.
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a CpuMatrix,
    pub(crate) tiles: Range<usize>,
    pub(crate) acts: &'a Activations,
    /// Address of output 0 of the matrix in row 0.
    pub(crate) out: Shared<f32>,
    /// Floats from one row of the output to the next.
    pub(crate) stride: usize,
}

impl Product<'_> {
    /// [`Product::store`] of `R` rows from `first` on.
    #[inline(always)]
    fn store_rows<S: Simd, const R: usize>(&self, s: S, first: usize, tile: usize, v: [S::F; R]) {
        unroll!(r < R, {
            self.store(s, first + r, tile, v[r]);
        });
    }

    /// Stores the lanes of `tile` that are rows of the matrix.
    #[inline(always)]
    #[expect(unsafe_code, reason = "threads write disjoint columns of one output")]
    fn store<S: Simd>(&self, s: S, row: usize, tile: usize, v: S::F) {
        let column = tile * LANES;
        // SAFETY: the creator of the product has checked that every row of the output has room for all of the matrix's
        // columns, and assigns each tile to only one product, so no other thread touches these floats.
        let out = unsafe { self.out.0.add(row * self.stride + column) };
        let valid = self.matrix.rows() - column;
        if valid >= LANES {
            // SAFETY: as above, for 16 columns.
            s.store(v, unsafe { &mut *out.cast::<[f32; LANES]>() });
        } else {
            let mut values = [0.0; LANES];
            s.store(v, &mut values);
            // SAFETY: as above, for the columns that exist.
            unsafe { core::slice::from_raw_parts_mut(out, valid) }.copy_from_slice(&values[..valid]);
        }
    }
}

/// What a quantized product needs besides the weights.
struct Quant<S: Simd> {
    table: S::B,
    /// Factor of a sum of activations, which corrects for the codes' offset.
    zero: i32,
    unit: f32,
}

/// `R` items from `at` on.
#[inline(always)]
fn items<T, const R: usize>(items: &[T], at: usize) -> Option<&[T; R]> {
    items.get(at..)?.first_chunk()
}

/// Distance in bytes from the weights that are multiplied to the weights that are prefetched. The core's own
/// prefetching ends at a page's end. With matrices larger than any cache (`memory` of the benchmark), 15 GiB/s of BF16
/// become 19.
const AHEAD: usize = 4096;

/// One tile times rows `first..first + R` of a panel.
#[inline(always)]
fn quant_rows<S: Simd, C: Codes, L: Scales, const R: usize>(
    s: S,
    quant: &Quant<S>,
    codes: &[u8],
    scales: &[u32],
    panel: &QuantPanel<'_>,
    first: usize,
) -> [S::F; R] {
    let mut acc = [s.splat(0.0); R];
    let mut at = first;
    let groups = codes.as_chunks::<VECTOR>().0.chunks_exact(L::BLOCKS * C::VECTORS);
    for (codes, group) in groups.zip(scales.chunks_exact(L::WORDS)) {
        let heads = L::heads(s, group, quant.unit);
        for (block, codes) in codes.chunks_exact(C::VECTORS).enumerate() {
            let (Some(rows), Some(row_scales)) =
                (items::<_, R>(panel.codes, at), items::<_, R>(panel.scales, at))
            else {
                return acc;
            };
            for line in codes {
                s.prefetch(line, AHEAD);
            }
            let w = C::unpack(s, codes, quant.table);
            let [scale, min] = L::block(s, group, heads, block);
            if const { L::BY_HALF } {
                let (Some(sums), Some(offsets)) =
                    (items::<_, R>(panel.half_sums, at), items::<_, R>(panel.half_offsets, at))
                else {
                    return acc;
                };
                unroll!(r < R, {
                    let [first, second] = sums[r].map(|sum| quant.init::<L>(s, sum));
                    let first = s.to_float(C::dot::<S, 0, 4>(s, first, &w, &rows[r]));
                    let second = s.to_float(C::dot::<S, 4, 8>(s, second, &w, &rows[r]));
                    let dot = s.fma(scale[1], second, s.mul(scale[0], first));
                    acc[r] = s.fma(dot, s.splat(row_scales[r]), acc[r]);
                    if const { L::MIN } {
                        acc[r] = s.fma(min[0], s.splat(offsets[r][0]), acc[r]);
                        acc[r] = s.fma(min[1], s.splat(offsets[r][1]), acc[r]);
                    }
                });
            } else {
                let (Some(sums), Some(offsets)) =
                    (items::<_, R>(panel.sums, at), items::<_, R>(panel.offsets, at))
                else {
                    return acc;
                };
                unroll!(r < R, {
                    let init = quant.init::<L>(s, sums[r]);
                    let dot = s.to_float(C::dot::<S, 0, 8>(s, init, &w, &rows[r]));
                    acc[r] = s.fma(s.mul(scale[0], s.splat(row_scales[r])), dot, acc[r]);
                    if const { L::MIN } {
                        acc[r] = s.fma(min[0], s.splat(offsets[r]), acc[r]);
                    }
                });
            }
            at += panel.height;
        }
    }
    acc
}

impl<S: Simd> Quant<S> {
    /// Initial value of a dot product. Codes of layouts with minimums need no correction.
    #[inline(always)]
    fn init<L: Scales>(&self, s: S, sum: i32) -> S::I {
        s.splat_i(if L::MIN { 0 } else { sum.wrapping_mul(self.zero) })
    }
}

/// The product with weights in a quantized layout.
#[inline(always)]
pub(crate) fn quant<S: Simd, C: Codes, L: Scales>(s: S, product: &Product<'_>) {
    let matrix = product.matrix;
    let bias = if C::BITS == 8 { S::U8_BIAS } else { 0 };
    let quant = Quant { table: s.table(&matrix.table()), zero: bias + matrix.offset(), unit: matrix.unit() };
    for tile in product.tiles.clone() {
        let (codes, scales) = (matrix.tile(tile), bytemuck::cast_slice(matrix.tile_scales(tile)));
        let mut first = 0;
        while first < product.acts.rows() {
            let panel = product.acts.quant_panel(first);
            let mut row = 0;
            macro_rules! rows {
                ($n:literal) => {
                    if const { S::QUANT_ROWS >= $n } {
                        while panel.height - row >= $n {
                            let acc = quant_rows::<S, C, L, $n>(s, &quant, codes, scales, &panel, row);
                            product.store_rows(s, first + row, tile, acc);
                            row += $n;
                        }
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

/// [`quant`] with codes that index a table. If codes of 8 bits are slower than codes of 7, narrow tables use the
/// latter.
#[inline(always)]
pub(crate) fn named<S: Simd, const BITS: u32, L: Scales>(s: S, product: &Product<'_>) {
    #[expect(
        clippy::collapsible_if,
        reason = "only a constant condition alone keeps its body from being compiled"
    )]
    if const { S::U8_BIAS != 0 } {
        if product.matrix.table_is_narrow() {
            return quant::<S, Named<BITS, 7>, L>(s, product);
        }
    }
    quant::<S, Named<BITS, 8>, L>(s, product);
}

/// A float tile layout.
pub(crate) trait FloatTile {
    /// Storage type of a value.
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

/// One tile times rows `first..first + R` of a panel of `h` rows. Each 32 columns are summed separately, which lets
/// blocks overlap and rounds less than one long sum. Memory is read in one stream, because several streams in one page
/// disturb the core's prefetching.
#[inline(always)]
fn float_rows<S: Simd, L: FloatTile, const R: usize>(
    s: S,
    values: &[[L::Value; LANES]],
    panel: &[f32],
    h: usize,
    first: usize,
) -> [S::F; R] {
    let mut acc = [s.splat(0.0); R];
    let (blocks, rest) = values.as_chunks::<CODES>();
    let mut panels = panel.chunks_exact(CODES * h);
    for (values, panel) in blocks.iter().zip(&mut panels) {
        let part = float_block::<S, L, R>(s, values, panel, h, first);
        unroll!(r < R, {
            acc[r] = s.add(acc[r], part[r]);
        });
    }
    if !rest.is_empty() {
        let part = float_block::<S, L, R>(s, rest, panels.remainder(), h, first);
        unroll!(r < R, {
            acc[r] = s.add(acc[r], part[r]);
        });
    }
    acc
}

/// Sums of one block of columns.
#[inline(always)]
fn float_block<S: Simd, L: FloatTile, const R: usize>(
    s: S,
    values: &[[L::Value; LANES]],
    panel: &[f32],
    h: usize,
    first: usize,
) -> [S::F; R] {
    let mut part = [s.splat(0.0); R];
    for (values, rows) in values.iter().zip(panel.chunks_exact(h)) {
        let Some(rows) = items::<_, R>(rows, first) else {
            break;
        };
        s.prefetch(values, AHEAD);
        let w = L::load(s, values);
        unroll!(r < R, {
            part[r] = s.fma(w, s.splat(rows[r]), part[r]);
        });
    }
    part
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
                    if const { S::FLOAT_ROWS >= $n } {
                        while h - row >= $n {
                            let acc = float_rows::<S, L, $n>(s, values, panel, h, row);
                            product.store_rows(s, first + row, tile, acc);
                            row += $n;
                        }
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
