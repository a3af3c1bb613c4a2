//! Attention: norm, projections, rotary embedding, the KV cache, the weighted sum, the residual.

mod gpu;

pub use gpu::attention_gpu;

use crate::cpu::{self, CpuBackend, CpuKv, CpuPlan, CpuScratch, Weights, sized};
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, LayerIndex, Model, ModelConfig, OnCpu, Place, TensorRole as Role, Wave};
use weft_platform::{
    AttentionParams, AttentionScratch, AttentionSpan, Cpu, CpuMatrix, KvArena, Need, PAGE, attention,
};

/// Runs the attention of the current layer, if it is placed on the CPU.
pub fn attention_cpu(
    mut current: ResMut<'_, CurrentLayer>,
    backend: Res<'_, CpuBackend>,
    layers: Query<'_, '_, &LayerIndex, With<OnCpu>>,
    mut models: Query<'_, '_, (&ModelConfig, &CpuPlan, &mut CpuKv), With<Model>>,
    mut waves: Query<'_, '_, (&mut Wave, &mut CpuScratch)>,
) {
    if !layers.contains(current.layer) {
        return;
    }
    let Ok((config, plan, mut kv)) = models.get_mut(current.model) else {
        return;
    };
    let Ok((mut wave, mut scratch)) = waves.get_mut(current.wave) else {
        return;
    };
    if wave.hidden_at != Place::Cpu {
        return;
    }
    let (Some(Some(weights)), Some(rope)) = (plan.layers.get(current.index), &plan.rope) else {
        return;
    };
    let _span = tracing::trace_span!("attention", layer = current.index).entered();
    let stage = Stage { cpu: &backend.0, config, weights, layer: current.index };
    let rotation =
        cpu::Rotation { table: rope, heads: config.heads + config.kv_heads, length: config.key_length };
    current.attended = stage.run(&mut wave, &mut scratch, &mut kv.0, &rotation);
}

/// What a layer's attention is made of.
struct Stage<'a> {
    cpu: &'a Cpu,
    config: &'a ModelConfig,
    weights: &'a Weights,
    layer: usize,
}

impl Stage<'_> {
    fn projections(&self) -> Option<([&CpuMatrix; 3], &CpuMatrix, &[f32])> {
        let weights = self.weights;
        let qkv = [weights.matrix(Role::Query)?, weights.matrix(Role::Key)?, weights.matrix(Role::Value)?];
        Some((qkv, weights.matrix(Role::AttentionOutput)?, weights.vector(Role::AttentionNorm)?))
    }

    /// Whether the layer has what it takes.
    fn run(
        &self,
        wave: &mut Wave,
        scratch: &mut CpuScratch,
        kv: &mut KvArena,
        rotation: &cpu::Rotation<'_>,
    ) -> bool {
        let Some((qkv, output, norm)) = self.projections() else { return false };
        let (cpu, config, rows) = (self.cpu, self.config, wave.rows());
        let (width, queries) = (config.embedding, config.heads * config.key_length);
        let stride = queries + config.kv_heads * (config.key_length + config.value_length);
        let CpuScratch { normed, activations, qkv: heads, attended, cos, sin, attention: memory, .. } =
            scratch;

        // Taken out for the time being: the spans of the wave are read beside it.
        let mut hidden = core::mem::take(&mut wave.hidden);
        let residual = sized(&mut hidden, rows * width);
        let normed = sized(normed, rows * width);
        cpu::norm_rows(cpu, residual, norm, config.norm_epsilon, normed);
        cpu::load(cpu, activations, normed, width, Need::of(&qkv));
        let heads = sized(heads, rows * stride);
        cpu::product(cpu, &qkv, activations, heads, stride);

        {
            let _kernel = tracing::trace_span!(target: "weft::kernel", "rope").entered();
            rotation.apply(cpu, heads, stride, cos, sin);
        }
        {
            let _kernel = tracing::trace_span!(target: "weft::kernel", "kv_write").entered();
            let keys = queries..queries + config.kv_heads * config.key_length;
            for (row, values) in heads.chunks_exact(stride).enumerate() {
                let (slot, position) = (wave.slots[row], wave.positions[row]);
                kv.write(
                    self.layer,
                    slot,
                    position as usize % PAGE,
                    &values[keys.clone()],
                    &values[keys.end..],
                );
            }
        }
        let attended_width = config.heads * config.value_length;
        let attended = sized(attended, rows * attended_width);
        {
            let _kernel = tracing::trace_span!(target: "weft::kernel", "attend").entered();
            self.attend(wave, kv, heads, stride, attended, memory);
        }
        cpu::load(cpu, activations, attended, attended_width, Need::of(&[output]));
        cpu::product(cpu, &[output], activations, normed, width);
        cpu::add_rows(cpu, residual, normed, width);
        wave.hidden = hidden;
        true
    }

    /// The weighted sum of values, for as many spans at a time as fit on the stack: a step allocates nothing.
    fn attend(
        &self,
        wave: &Wave,
        kv: &KvArena,
        q: &[f32],
        q_stride: usize,
        out: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        const TOGETHER: usize = 64;
        let config = self.config;
        let params = AttentionParams {
            heads: config.heads,
            scale: config.attention_scale,
            soft_cap: None,
            window: None,
        };
        for group in wave.spans.chunks(TOGETHER) {
            let mut spans = [AttentionSpan { first_row: 0, rows: 0, start: 0, table: &[] }; TOGETHER];
            for (slot, span) in spans.iter_mut().zip(group) {
                *slot = AttentionSpan {
                    first_row: span.rows.start,
                    rows: span.rows.len(),
                    start: span.start,
                    table: &wave.tables[span.table.clone()],
                };
            }
            let spans = &spans[..group.len()];
            let out_stride = config.heads * config.value_length;
            attention(self.cpu, kv, self.layer, spans, &params, q, q_stride, out, out_stride, scratch);
        }
    }
}
