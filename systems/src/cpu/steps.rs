//! Kernels over the rows of a wave, each in a tracing span of target `weft::kernel`, split over threads by rows.

use super::rope::RopeTable;
use weft_components::RopeStyle;
use weft_platform::{Activations, Cpu, CpuMatrix, Need, RopeStyle as KernelRope, matmul};

/// Floats that are not worth a fork.
const GRAIN: usize = 16 * 1024;

/// Calls `f(first row, rows)` on pieces of `data`, whose rows are `stride` floats, in parallel.
fn by_rows(
    cpu: &Cpu,
    data: &mut [f32],
    stride: usize,
    first: usize,
    f: &(impl Fn(usize, &mut [f32]) + Sync),
) {
    let rows = data.len() / stride.max(1);
    if cpu.threads <= 1 || rows < 2 || data.len() <= GRAIN {
        return f(first, data);
    }
    let (left, right) = data.split_at_mut(rows / 2 * stride);
    cpu.join(
        || by_rows(cpu, left, stride, first, f),
        || by_rows(cpu, right, stride, first + rows / 2, f),
    );
}

/// RMS norm of each row (arXiv 1910.07467): `out[r] = x[r] / rms(x[r]) * weight`.
pub fn norm_rows(cpu: &Cpu, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "rms_norm").entered();
    let width = weight.len();
    by_rows(cpu, out, width, 0, &|first, out| {
        for (row, out) in x[first * width..]
            .chunks_exact(width)
            .zip(out.chunks_exact_mut(width))
        {
            cpu.kernels.rms_norm(row, weight, epsilon, out);
        }
    });
}

/// `x += delta`, rows of any width.
pub fn add_rows(cpu: &Cpu, x: &mut [f32], delta: &[f32]) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "add").entered();
    by_rows(cpu, x, 1, 0, &|first, x| {
        cpu.kernels.add(x, &delta[first..][..x.len()])
    });
}

/// SwiGLU of each row: `gate_up` holds `[rows, 2 * inner]`, `gated` takes `[rows, inner]`.
pub fn gate_rows(cpu: &Cpu, gate_up: &[f32], gated: &mut [f32], inner: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "silu_mul").entered();
    by_rows(cpu, gated, inner, 0, &|first, gated| {
        for (row, out) in gate_up[2 * first * inner..]
            .chunks_exact(2 * inner)
            .zip(gated.chunks_exact_mut(inner))
        {
            let (gate, up) = row.split_at(inner);
            cpu.kernels.silu_mul(gate, up, out);
        }
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
        by_rows(cpu, rows, stride, 0, &|first, rows| {
            for (row, values) in rows.chunks_exact_mut(stride).enumerate() {
                let angles = (first + row) * pairs..(first + row + 1) * pairs;
                let heads = &mut values[..self.heads * self.length];
                cpu.kernels
                    .rope(style, heads, self.length, &cos[angles.clone()], &sin[angles]);
            }
        });
    }
}
