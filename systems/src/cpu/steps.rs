//! Kernels over the rows of a wave, each in a tracing span of target `weft::kernel`, split over threads by rows.

use super::rope::RopeTable;
use weft_components::RopeStyle;
use weft_platform::{Activations, Cpu, CpuMatrix, Need, RopeStyle as KernelRope, matmul};

/// Floats that are not worth a fork.
const GRAIN: usize = 8 * 1024;

/// Calls `f(row, values)` for every row of `data`, `width` floats each, in parallel where it pays.
fn by_rows(cpu: &Cpu, data: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    cpu.for_each_part(data, width, GRAIN.div_ceil(width.max(1)), f);
}

/// Row `row` of rows of `width` floats.
fn row_of(data: &[f32], width: usize, row: usize) -> &[f32] {
    &data[row * width..][..width]
}

/// RMS norm of each row (arXiv 1910.07467): `out[r] = x[r] / rms(x[r]) * weight`.
pub fn norm_rows(cpu: &Cpu, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "rms_norm").entered();
    let width = weight.len();
    by_rows(cpu, out, width, |row, out| cpu.kernels.rms_norm(row_of(x, width, row), weight, epsilon, out));
}

/// `x[r] += delta[r]`, rows of `width` floats.
pub fn add_rows(cpu: &Cpu, x: &mut [f32], delta: &[f32], width: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "add").entered();
    by_rows(cpu, x, width, |row, x| cpu.kernels.add(x, row_of(delta, width, row)));
}

/// SwiGLU of each row: `gate_up` holds `[rows, 2 * inner]`, `gated` takes `[rows, inner]`.
pub fn gate_rows(cpu: &Cpu, gate_up: &[f32], gated: &mut [f32], inner: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "silu_mul").entered();
    by_rows(cpu, gated, inner, |row, out| {
        let (gate, up) = row_of(gate_up, 2 * inner, row).split_at(inner);
        cpu.kernels.silu_mul(gate, up, out);
    });
}

/// Rows of activations as the next product reads them.
pub fn load(cpu: &Cpu, activations: &mut Activations, x: &[f32], width: usize, need: Need) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "quantize").entered();
    activations.load(cpu, x, x.len() / width.max(1), width, need);
}

/// `out[r] = x[r] · Wᵀ` for matrices that share their activations, side by side in rows of `stride`.
pub fn product(cpu: &Cpu, weights: &[&CpuMatrix], activations: &Activations, out: &mut [f32], stride: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "matmul").entered();
    matmul(cpu, weights, activations, out, stride);
}

/// The turning of the leading heads of each row.
pub struct Rotation<'a> {
    /// Frequencies and pairing.
    pub table: &'a RopeTable,
    /// Heads of a row that turn: those of queries and keys, which come first.
    pub heads: usize,
    /// Dimensions of a head.
    pub length: usize,
}

impl Rotation<'_> {
    /// Turns rows of `stride` floats by the angles of their positions, `[rows, pairs]` each.
    pub fn apply(&self, cpu: &Cpu, rows: &mut [f32], stride: usize, cos: &[f32], sin: &[f32]) {
        let pairs = self.table.pairs();
        let style = match self.table.style {
            RopeStyle::Adjacent => KernelRope::Pairs,
            RopeStyle::Half => KernelRope::Halves,
        };
        by_rows(cpu, rows, stride, |row, values| {
            let heads = &mut values[..self.heads * self.length];
            cpu.kernels.rope(style, heads, self.length, row_of(cos, pairs, row), row_of(sin, pairs, row));
        });
    }
}
