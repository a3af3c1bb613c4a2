//! Formulas that several kernels compute, in `f64`.

use weft_gpu::shader::{Part, parts};

/// Epsilon of the norms.
pub const EPSILON: f32 = 1e-5;

/// RMS norm of each row.
pub fn rms_norm(x: &[f32], weight: &[f32]) -> Vec<f64> {
    let norm = |row: &[f32]| {
        let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let scale = (squares / row.len() as f64 + f64::from(EPSILON)).sqrt().recip();
        row.iter().zip(weight).map(|(x, w)| f64::from(*x) * scale * f64::from(*w)).collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(norm).collect()
}

/// LayerNorm of each row.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let norm = |row: &[f32]| {
        let n = row.len() as f64;
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let squares: f64 = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
        let scale = (squares / n + f64::from(EPSILON)).sqrt().recip();
        let each = row.iter().zip(weight).zip(bias);
        each.map(|((x, w), b)| (f64::from(*x) - mean) * scale * f64::from(*w) + f64::from(*b))
            .collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(norm).collect()
}

/// The gate of SwiGLU.
pub fn silu(gate: f64) -> f64 {
    gate / (1.0 + (-gate).exp())
}

/// The gate of GEGLU, with the tanh approximation.
pub fn gelu(gate: f64) -> f64 {
    let inner = (2.0 / core::f64::consts::PI).sqrt() * (gate + 0.044_715 * gate.powi(3));
    0.5 * gate * (1.0 + inner.tanh())
}

/// GELU with the error function, integrated with Simpson's rule.
pub fn gelu_erf(gate: f64) -> f64 {
    const STEPS: usize = 400;
    let end = (gate.abs() / 2f64.sqrt()).min(6.0);
    let at = |i: usize| (-(end * i as f64 / STEPS as f64).powi(2)).exp();
    let inner: f64 = (1..STEPS).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    let integral = (at(0) + inner + at(STEPS)) * end / STEPS as f64 / 3.0;
    let complement = 1.0 - 2.0 / core::f64::consts::PI.sqrt() * integral;
    gate.max(0.0) - 0.5 * gate.abs() * if end < 6.0 { complement } else { 0.0 }
}

/// The gate of squared ReLU.
pub fn relu2(gate: f64) -> f64 {
    gate.max(0.0).powi(2)
}

/// A gate: its part, its twin, and a bound of its slope for gates from -8 to 8.
pub type Gate = (Part, fn(f64) -> f64, f64);

/// All gates.
pub const GATES: [Gate; 4] = [
    (parts::GATE_SILU, silu, 1.1),
    (parts::GATE_GELU, gelu, 1.2),
    (parts::GATE_RELU2, relu2, 16.0),
    (parts::GATE_GELU_ERF, gelu_erf, 1.2),
];

/// The values that 8-bit codes stand for.
pub struct Rounded {
    /// Code times scale.
    pub exact: Vec<f64>,
    /// One step if the number is so close to the middle between two codes that float arithmetic may round to either,
    /// else 0.
    pub doubt: Vec<f64>,
}

/// Rounds blocks of 32 to codes from -127 to 127, as `act_q8.wgsl` does.
pub fn round8(numbers: &[f64]) -> Rounded {
    // Numbers up to 127 with some ten roundings of 2^-23 each.
    const UNSURE: f64 = 2e-4;
    let mut rounded = Rounded { exact: Vec::new(), doubt: Vec::new() };
    for block in numbers.chunks_exact(32) {
        let scale = block.iter().fold(0.0f64, |most, x| most.max(x.abs())) / 127.0;
        for x in block {
            let steps = if scale > 0.0 { x / scale } else { 0.0 };
            rounded.exact.push(steps.round() * scale);
            let from_middle = (steps.abs().fract() - 0.5).abs();
            rounded.doubt.push(if from_middle < UNSURE { scale } else { 0.0 });
        }
    }
    rounded
}
