//! Rows of activations in the form that products read: quantized to 8 bits, as floats, or both.
//!
//! Rows are grouped in panels of `PANEL`; the last panel may be shorter. A panel of `h` rows contains, for each block
//! of 32 columns, `h` times 32 codes, `h` scales, and `h` sums of the whole block and of its halves; or, for each
//! column, `h` floats. A kernel that processes some rows of a panel reads memory in order.
//!
//! A block's scale is its largest magnitude over 127. Codes are rounded to nearest even. Scale and sum stay exact
//! (`f32`, `i32`), which loses less than the half floats of the usual 8-bit blocks.
//!
//! Invariant: the data of a row does not depend on the other rows.

use crate::quant_panel::{PANEL, QuantPanel};
use crate::tile::cpu_matrix::CpuMatrix;
use weft_components::CODES;

/// The forms of activations that a product reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// 8-bit codes, for quantized layouts.
    pub quantized: bool,
    /// Floats, for float layouts.
    pub floats: bool,
}

impl Need {
    /// The forms that the products with all of `weights` read.
    pub fn of(weights: &[&CpuMatrix]) -> Self {
        let quantized = |w: &&CpuMatrix| w.layout().is_quantized();
        Self { quantized: weights.iter().any(quantized), floats: !weights.iter().all(quantized) }
    }
}

/// Scratch memory for rows of activations. Buffers grow to the largest load and are reused.
#[derive(Default)]
pub struct Activations {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) need: Need,
    pub(crate) codes: Vec<[i8; CODES]>,
    pub(crate) scales: Vec<f32>,
    pub(crate) sums: Vec<i32>,
    pub(crate) offsets: Vec<f32>,
    pub(crate) half_sums: Vec<[i32; 2]>,
    pub(crate) half_offsets: Vec<[f32; 2]>,
    pub(crate) floats: Vec<f32>,
}

impl Activations {
    /// Empty scratch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocates memory for any load of at most `rows` rows of `cols` floats in the forms of `need`.
    pub fn reserve(&mut self, rows: usize, cols: usize, need: Need) {
        let blocks = if need.quantized { rows * (cols / CODES) } else { 0 };
        let floats = if need.floats { rows * cols } else { 0 };
        self.grow(blocks, floats);
    }

    /// Grows the buffers to at least `blocks` blocks of codes and `floats` floats.
    pub(crate) fn grow(&mut self, blocks: usize, floats: usize) {
        grow(&mut self.codes, blocks);
        grow(&mut self.scales, blocks);
        grow(&mut self.sums, blocks);
        grow(&mut self.offsets, blocks);
        grow(&mut self.half_sums, blocks);
        grow(&mut self.half_offsets, blocks);
        grow(&mut self.floats, floats);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Forms that are loaded.
    pub fn need(&self) -> Need {
        self.need
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> usize {
        self.codes.capacity() * CODES
            + 4 * (self.scales.capacity() + self.sums.capacity() + self.offsets.capacity())
            + 8 * (self.half_sums.capacity() + self.half_offsets.capacity())
            + 4 * self.floats.capacity()
    }

    /// Height of the panel whose first row is `first`.
    #[inline(always)]
    pub(crate) fn height(&self, first: usize) -> usize {
        (self.rows - first).min(PANEL)
    }

    /// The codes of the panel whose first row is `first`.
    #[inline(always)]
    pub(crate) fn quant_panel(&self, first: usize) -> QuantPanel<'_> {
        let blocks = self.cols / CODES;
        let height = self.height(first);
        let range = first * blocks..(first + height) * blocks;
        QuantPanel {
            height,
            codes: &self.codes[range.clone()],
            scales: &self.scales[range.clone()],
            sums: &self.sums[range.clone()],
            offsets: &self.offsets[range.clone()],
            half_sums: &self.half_sums[range.clone()],
            half_offsets: &self.half_offsets[range],
        }
    }

    /// The floats of the panel whose first row is `first`.
    #[inline(always)]
    pub(crate) fn float_panel(&self, first: usize) -> &[f32] {
        &self.floats[first * self.cols..][..self.height(first) * self.cols]
    }
}

fn grow<T: Clone + bytemuck::Zeroable>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::zeroed());
    }
}
