//! Rows of activations as the products read them: quantized to 8 bits, as floats, or both.
//!
//! Rows are grouped in panels of `PANEL`, the last one shorter. A panel of `h` rows holds, for each block of 32
//! columns, `h` times 32 codes, `h` scales, `h` sums of the whole block and of its halves; or, for each column, `h` floats. A kernel that takes some rows
//! of a panel then reads memory in order.
//!
//! A block's scale is its largest magnitude over 127; codes are rounded to nearest even; scale and sum stay exact
//! (`f32`, `i32`), which loses less than the half floats of the field's usual 8-bit blocks.
//!
//! Invariant: what is held for a row does not depend on the other rows.

use crate::kernels::Kernels;
use crate::threads::Cpu;
use crate::tile::CpuMatrix;
use weft_components::CODES;

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;

/// Which forms of the activations a product reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// 8-bit codes, for quantized layouts.
    pub quantized: bool,
    /// Floats, for float layouts.
    pub floats: bool,
}

impl Need {
    /// What the product with all of `weights` reads.
    pub fn of(weights: &[&CpuMatrix]) -> Self {
        let quantized = |w: &&CpuMatrix| w.layout().is_quantized();
        Self { quantized: weights.iter().any(quantized), floats: !weights.iter().all(quantized) }
    }
}

/// Scratch for rows of activations. Buffers grow to the largest load and are kept.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    need: Need,
    codes: Vec<[i8; CODES]>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    offsets: Vec<f32>,
    half_sums: Vec<[i32; 2]>,
    half_offsets: Vec<[f32; 2]>,
    floats: Vec<f32>,
}

impl Activations {
    /// Empty scratch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `rows` rows of `cols` floats, one after another in `x`, in the forms of `need`.
    ///
    /// # Panics
    /// Where `x` is shorter than the rows, or `cols` is no multiple of 32 and codes are needed.
    pub fn load(&mut self, cpu: &Cpu, x: &[f32], rows: usize, cols: usize, need: Need) {
        self.load_strided(cpu, x, cols, rows, cols, need);
    }

    /// [`Activations::load`] of rows that start `stride` floats apart.
    ///
    /// # Panics
    /// As there.
    pub fn load_strided(
        &mut self,
        cpu: &Cpu,
        x: &[f32],
        stride: usize,
        rows: usize,
        cols: usize,
        need: Need,
    ) {
        assert!(rows == 0 || (stride >= cols && x.len() >= (rows - 1) * stride + cols), "rows past the end");
        assert!(!need.quantized || cols.is_multiple_of(CODES), "columns must be whole blocks");
        (self.rows, self.cols, self.need) = (rows, cols, need);
        let blocks = if need.quantized { rows * (cols / CODES) } else { 0 };
        let floats = if need.floats { rows * cols } else { 0 };
        self.grow(blocks, floats);
        let job = Job {
            rows,
            cols,
            stride,
            need,
            x,
            codes: &mut self.codes[..blocks],
            scales: &mut self.scales[..blocks],
            sums: &mut self.sums[..blocks],
            offsets: &mut self.offsets[..blocks],
            half_sums: &mut self.half_sums[..blocks],
            half_offsets: &mut self.half_offsets[..blocks],
            floats: &mut self.floats[..floats],
        };
        job.run(cpu);
    }

    /// Takes memory for any load of at most `rows` rows of `cols` floats in the forms of `need`.
    pub fn reserve(&mut self, rows: usize, cols: usize, need: Need) {
        let blocks = if need.quantized { rows * (cols / CODES) } else { 0 };
        let floats = if need.floats { rows * cols } else { 0 };
        self.grow(blocks, floats);
    }

    fn grow(&mut self, blocks: usize, floats: usize) {
        grow(&mut self.codes, blocks);
        grow(&mut self.scales, blocks);
        grow(&mut self.sums, blocks);
        grow(&mut self.offsets, blocks);
        grow(&mut self.half_sums, blocks);
        grow(&mut self.half_offsets, blocks);
        grow(&mut self.floats, floats);
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Forms held.
    pub fn need(&self) -> Need {
        self.need
    }

    /// Memory held, in bytes.
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

/// The codes of a panel: all slices hold `height` items a block of 32 columns.
pub(crate) struct QuantPanel<'a> {
    pub(crate) height: usize,
    pub(crate) codes: &'a [[i8; CODES]],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [i32],
    /// `scale * sum`.
    pub(crate) offsets: &'a [f32],
    /// Sums of the first and the second 16 codes.
    pub(crate) half_sums: &'a [[i32; 2]],
    /// `scale * half_sums`.
    pub(crate) half_offsets: &'a [[f32; 2]],
}

/// A panel being filled: row `row` of `height`.
pub(crate) struct QuantRow<'a> {
    pub(crate) row: usize,
    pub(crate) height: usize,
    pub(crate) codes: &'a mut [[i8; CODES]],
    pub(crate) scales: &'a mut [f32],
    pub(crate) sums: &'a mut [i32],
    pub(crate) offsets: &'a mut [f32],
    pub(crate) half_sums: &'a mut [[i32; 2]],
    pub(crate) half_offsets: &'a mut [[f32; 2]],
}

/// Whole panels to load.
struct Job<'a> {
    rows: usize,
    cols: usize,
    stride: usize,
    need: Need,
    x: &'a [f32],
    codes: &'a mut [[i8; CODES]],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
    offsets: &'a mut [f32],
    half_sums: &'a mut [[i32; 2]],
    half_offsets: &'a mut [[f32; 2]],
    floats: &'a mut [f32],
}

impl Job<'_> {
    /// Floats that are not worth a fork.
    const GRAIN: usize = 32 * 1024;

    fn run(self, cpu: &Cpu) {
        /// Most pieces of a load.
        const PIECES: usize = 16;
        let panels = self.rows.div_ceil(PANEL);
        let grain = (Self::GRAIN / (PANEL * self.cols).max(1)).max(1);
        let pieces = cpu.pieces(panels, grain).min(PIECES);
        if pieces <= 1 {
            return self.serial(cpu.kernels);
        }
        let rows = panels.div_ceil(pieces) * PANEL;
        let mut jobs: [Option<Job<'_>>; PIECES] = [const { None }; PIECES];
        let mut rest = Some(self);
        for job in &mut jobs {
            *job = match rest.take() {
                Some(whole) if whole.rows > rows => {
                    let (first, second) = whole.split(rows);
                    rest = Some(second);
                    Some(first)
                }
                last => last,
            };
        }
        cpu.for_each_part(&mut jobs, 1, 1, |_, job| {
            if let Some(job) = job.first_mut().and_then(Option::take) {
                job.serial(cpu.kernels);
            }
        });
    }

    fn split(self, rows: usize) -> (Self, Self) {
        let blocks = if self.need.quantized { rows * (self.cols / CODES) } else { 0 };
        let floats = if self.need.floats { rows * self.cols } else { 0 };
        let (codes, codes_b) = self.codes.split_at_mut(blocks);
        let (scales, scales_b) = self.scales.split_at_mut(blocks);
        let (sums, sums_b) = self.sums.split_at_mut(blocks);
        let (offsets, offsets_b) = self.offsets.split_at_mut(blocks);
        let (half_sums, half_sums_b) = self.half_sums.split_at_mut(blocks);
        let (half_offsets, half_offsets_b) = self.half_offsets.split_at_mut(blocks);
        let (floats, floats_b) = self.floats.split_at_mut(floats);
        let x_b = &self.x[rows * self.stride..];
        (
            Job { rows, codes, scales, sums, offsets, half_sums, half_offsets, floats, ..self },
            Job {
                rows: self.rows - rows,
                x: x_b,
                codes: codes_b,
                scales: scales_b,
                sums: sums_b,
                offsets: offsets_b,
                half_sums: half_sums_b,
                half_offsets: half_offsets_b,
                floats: floats_b,
                ..self
            },
        )
    }

    fn serial(self, kernels: &Kernels) {
        let blocks = self.cols / CODES;
        for row in 0..self.rows {
            let x = &self.x[row * self.stride..][..self.cols];
            let first = row / PANEL * PANEL;
            let (row, height) = (row - first, (self.rows - first).min(PANEL));
            if self.need.quantized {
                let range = first * blocks..(first + height) * blocks;
                kernels.quantize(
                    x,
                    QuantRow {
                        row,
                        height,
                        codes: &mut self.codes[range.clone()],
                        scales: &mut self.scales[range.clone()],
                        sums: &mut self.sums[range.clone()],
                        offsets: &mut self.offsets[range.clone()],
                        half_sums: &mut self.half_sums[range.clone()],
                        half_offsets: &mut self.half_offsets[range],
                    },
                );
            }
            if self.need.floats {
                let panel = &mut self.floats[first * self.cols..][..height * self.cols];
                for (column, value) in panel.chunks_exact_mut(height).zip(x) {
                    column[row] = *value;
                }
            }
        }
    }
}
