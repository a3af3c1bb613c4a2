//! Loads rows of activations: quantizes or copies each row into its panel, panels in parallel.

use crate::activations::{Activations, Need};
use crate::kernels::Kernels;
use crate::quant_panel::{PANEL, QuantRow};
use crate::threads::Cpu;
use weft_components::CODES;

impl Activations {
    /// Loads `rows` rows of `cols` floats, stored one after another in `x`, in the forms of `need`.
    ///
    /// # Panics
    /// If `x` is shorter than the rows, or if codes are needed and `cols` is not a multiple of 32.
    pub fn load(&mut self, cpu: &Cpu, x: &[f32], rows: usize, cols: usize, need: Need) {
        self.load_strided(cpu, x, cols, rows, cols, need);
    }

    /// [`Activations::load`] for rows that start `stride` floats apart.
    ///
    /// # Panics
    /// As [`Activations::load`].
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
    /// Fewest floats for which a fork pays.
    const GRAIN: usize = 32 * 1024;

    fn run(self, cpu: &Cpu) {
        /// Most jobs of a load.
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
