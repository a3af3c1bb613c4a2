//! Kernels over the rows of a wave, each in a tracing span of target `weft::kernel`, split over threads by rows.

use weft_components::Activation;
use weft_platform::{Activations, Cpu, CpuMatrix, Need, matmul};

/// Number of floats below which a fork to other threads does not pay.
const GRAIN: usize = 8 * 1024;

/// Calls `f(row, values)` for every row of `data`, `width` floats each, in parallel if that pays.
pub(crate) fn by_rows(cpu: &Cpu, data: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    cpu.for_each_part(data, width, GRAIN.div_ceil(width.max(1)), f);
}

/// Row `row` of rows of `width` floats.
pub(super) fn row_of(data: &[f32], width: usize, row: usize) -> &[f32] {
    &data[row * width..][..width]
}

/// RMS norm of each row (arXiv 1910.07467): `out[r] = x[r] / rms(x[r]) * weight`.
pub fn norm_rows(cpu: &Cpu, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "rms_norm").entered();
    let width = weight.len();
    by_rows(cpu, out, width, |row, out| cpu.kernels.rms_norm(row_of(x, width, row), weight, epsilon, out));
}

/// [`norm_rows`] in place.
pub fn norm_in_place(cpu: &Cpu, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "rms_norm").entered();
    by_rows(cpu, x, weight.len(), |_, x| cpu.kernels.rms_norm_in_place(x, weight, epsilon));
}

/// LayerNorm of each row in place (arXiv 1607.06450).
pub fn layer_norm_rows(cpu: &Cpu, x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "layer_norm").entered();
    by_rows(cpu, x, weight.len(), |_, x| cpu.kernels.layer_norm(x, weight, bias, epsilon));
}

/// `x[r] += delta[r] * factor`, rows of `width` floats.
pub fn add_rows(cpu: &Cpu, x: &mut [f32], delta: &[f32], width: usize, factor: f32) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "add").entered();
    by_rows(cpu, x, width, |row, x| cpu.kernels.add_scaled(x, row_of(delta, width, row), factor));
}

/// `x *= factor`, rows of `width` floats.
pub fn scale_rows(cpu: &Cpu, x: &mut [f32], width: usize, factor: f32) {
    if factor != 1.0 {
        let _kernel = tracing::trace_span!(target: "weft::kernel", "scale").entered();
        by_rows(cpu, x, width, |_, x| cpu.kernels.scale(x, factor));
    }
}

/// `x = cap * tanh(x / cap)`, rows of `width` floats.
pub fn cap_rows(cpu: &Cpu, x: &mut [f32], width: usize, cap: f32) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "soft_cap").entered();
    by_rows(cpu, x, width, |_, x| cpu.kernels.soft_cap(x, cap));
}

/// The gate of each row: `gate_up` holds `[rows, 2 * inner]`, `gated` takes `[rows, inner]`.
pub fn gate_rows(cpu: &Cpu, activation: Activation, gate_up: &[f32], gated: &mut [f32], inner: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "gate").entered();
    by_rows(cpu, gated, inner, |row, out| {
        let (gate, up) = row_of(gate_up, 2 * inner, row).split_at(inner);
        cpu.kernels.gate(activation, gate, up, out);
    });
}

/// Applies the nonlinearity to rows of `x`, `width` floats each, after adding a bias if there is one. `x` is
/// overwritten.
pub fn activate_rows(
    cpu: &Cpu,
    activation: Activation,
    x: &mut [f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    width: usize,
) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "activate").entered();
    if let Some(bias) = bias {
        by_rows(cpu, x, width, |_, row| cpu.kernels.add(row, bias));
    }
    by_rows(cpu, out, width, |row, out| cpu.kernels.activate(activation, row_of(x, width, row), out));
}

/// Loads rows of activations in the form that the next product reads.
pub fn load(cpu: &Cpu, activations: &mut Activations, x: &[f32], width: usize, need: Need) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "quantize").entered();
    activations.load(cpu, x, x.len() / width.max(1), width, need);
}

/// `out[r] = x[r] · Wᵀ` for matrices that share their activations, side by side in rows of `stride`.
pub fn product(cpu: &Cpu, weights: &[&CpuMatrix], activations: &Activations, out: &mut [f32], stride: usize) {
    let _kernel = tracing::trace_span!(target: "weft::kernel", "matmul").entered();
    matmul(cpu, weights, activations, out, stride);
}

/// What is applied to a product's output before it is added to the residual at the end of a block.
pub struct Block<'a> {
    /// Factor of the product.
    pub factor: f32,
    /// Bias, added after the factor.
    pub bias: Option<&'a [f32]>,
    /// Norm after the bias.
    pub norm: Option<&'a [f32]>,
    /// Epsilon of the norm.
    pub epsilon: f32,
    /// Factor of the output, applied last.
    pub residual_scale: f32,
    /// Weight and bias of the LayerNorm that is applied to the residual afterwards.
    pub residual_norm: Option<(&'a [f32], &'a [f32])>,
}

impl Block<'_> {
    /// Adds rows of `width` floats to the residual's rows. `delta` is overwritten.
    pub fn add(&self, cpu: &Cpu, residual: &mut [f32], delta: &mut [f32], width: usize) {
        scale_rows(cpu, delta, width, self.factor);
        if let Some(bias) = self.bias {
            by_rows(cpu, delta, width, |_, row| cpu.kernels.add(row, bias));
        }
        if let Some(norm) = self.norm {
            norm_in_place(cpu, delta, norm, self.epsilon);
        }
        add_rows(cpu, residual, delta, width, self.residual_scale);
        if let Some((weight, bias)) = self.residual_norm {
            layer_norm_rows(cpu, residual, weight, bias, self.epsilon);
        }
    }
}
