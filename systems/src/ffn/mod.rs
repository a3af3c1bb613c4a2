//! The feed-forward network: norm, gate and up, SwiGLU (arXiv 2002.05202), down, residual.

mod gpu;

pub use gpu::ffn_gpu;

use crate::cpu::{self, CpuBackend, CpuPlan, CpuScratch, Weights, sized};
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, LayerIndex, Model, ModelConfig, OnCpu, TensorRole as Role, Wave};
use weft_platform::{Cpu, Need};

/// Runs the feed-forward network of the current layer, if it is placed on the CPU.
pub fn ffn_cpu(
    mut current: ResMut<'_, CurrentLayer>,
    backend: Res<'_, CpuBackend>,
    layers: Query<'_, '_, &LayerIndex, With<OnCpu>>,
    models: Query<'_, '_, (&ModelConfig, &CpuPlan), With<Model>>,
    mut waves: Query<'_, '_, (&mut Wave, &mut CpuScratch)>,
) {
    if !layers.contains(current.layer) {
        return;
    }
    let Ok((config, plan)) = models.get(current.model) else {
        return;
    };
    let Ok((mut wave, mut scratch)) = waves.get_mut(current.wave) else {
        return;
    };
    let Some(Some(weights)) = plan.layers.get(current.index) else {
        return;
    };
    let _span = tracing::trace_span!("ffn", layer = current.index).entered();
    current.computed = current.attended && run(&backend.0, config, weights, &mut wave, &mut scratch);
}

/// Whether the layer has what it takes.
fn run(
    cpu: &Cpu,
    config: &ModelConfig,
    weights: &Weights,
    wave: &mut Wave,
    scratch: &mut CpuScratch,
) -> bool {
    let (Some(norm), Some(gate), Some(up), Some(down)) = (
        weights.vector(Role::FfnNorm),
        weights.matrix(Role::FfnGate),
        weights.matrix(Role::FfnUp),
        weights.matrix(Role::FfnDown),
    ) else {
        return false;
    };
    let (rows, width, inner) = (wave.rows(), config.embedding, config.feed_forward);
    let CpuScratch { normed, activations, gate_up, gated, .. } = scratch;
    let hidden = sized(&mut wave.hidden, rows * width);
    let normed = sized(normed, rows * width);
    cpu::norm_rows(cpu, hidden, norm, config.norm_epsilon, normed);
    cpu::load(cpu, activations, normed, width, Need::of(&[gate, up]));
    let gate_up = sized(gate_up, rows * 2 * inner);
    cpu::product(cpu, &[gate, up], activations, gate_up, 2 * inner);
    let gated = sized(gated, rows * inner);
    cpu::gate_rows(cpu, gate_up, gated, inner);
    cpu::load(cpu, activations, gated, inner, Need::of(&[down]));
    cpu::product(cpu, &[down], activations, normed, width);
    cpu::add_rows(cpu, hidden, normed, width);
    true
}
