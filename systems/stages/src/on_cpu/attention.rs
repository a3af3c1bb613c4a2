//! Attention: norm, projections, rotary embedding, the KV cache, the weighted sum, the residual.
//!
//! The layer's tensors decide which norms, biases and factors there are.

use super::{
    self as cpu, Adapting, Block, CpuKv, CpuLayer, CpuPlace, CpuPlan, CpuScratch, HeadPart, Heads, Turn,
    sized,
};
use crate::host::HostCpu;
use bevy_ecs::prelude::*;
use weft_components::{
    AdapterSite, CurrentLayer, LayerConfig, Model, ModelConfig, RecentTokens, TensorRole as Role, Wave,
    WaveKv,
};
use weft_platform::{
    AttentionParams, AttentionScratch, AttentionSpan, Cpu, CpuMatrix, KvArena, KvRows, Need, Recent,
    attention,
};

/// Runs the attention of the current layer if it is placed on the CPU and has not run.
pub fn attention_cpu(
    mut current: ResMut<'_, CurrentLayer>,
    host: Res<'_, HostCpu>,
    here: Res<'_, CpuPlace>,
    mut models: Query<'_, '_, (&ModelConfig, &CpuPlan, &mut CpuKv), With<Model>>,
    mut waves: Query<'_, '_, (&mut Wave, &mut CpuScratch)>,
) {
    if current.place != here.0 || current.attended {
        return;
    }
    let Ok((config, plan, mut kv)) = models.get_mut(current.model) else {
        return;
    };
    let Ok((mut wave, mut scratch)) = waves.get_mut(current.wave) else {
        return;
    };
    let Some(layer) = plan.layer(&host.0, config, current.index) else {
        return;
    };
    let _span = tracing::trace_span!("attention", layer = current.index).entered();
    current.attended = layer.attend(&mut wave, &mut scratch, &mut kv.0);
}

impl CpuLayer<'_> {
    fn layer_config(&self) -> LayerConfig {
        self.config.layer.get(self.index).copied().unwrap_or_default()
    }

    fn projections(&self) -> Option<([&CpuMatrix; 3], &CpuMatrix)> {
        let weights = self.weights;
        let qkv = [weights.matrix(Role::Query)?, weights.matrix(Role::Key)?, weights.matrix(Role::Value)?];
        Some((qkv, weights.matrix(Role::AttentionOutput)?))
    }

    /// The operations on queries, keys and values. Their positions have the angles `cos` and `sin`, `[tables, rows,
    /// pairs]`.
    fn heads<'a>(&'a self, rows: usize, cos: &'a [f32], sin: &'a [f32]) -> Heads<'a> {
        let (config, weights) = (self.config, self.weights);
        let part = |width: usize, [factor, bias, norm]: [Role; 3]| HeadPart {
            width,
            factor: weights.factor(factor),
            bias: weights.vector(bias),
            norm: weights.vector(norm),
        };
        let turn = self.layer_config().rope.and_then(|index| {
            let table = self.ropes.get(index)?;
            let angles = index * rows * table.pairs()..(index + 1) * rows * table.pairs();
            Some(Turn { table, cos: cos.get(angles.clone())?, sin: sin.get(angles)? })
        });
        let keys = part(config.kv_heads * config.key_length, [Role::KeyScale, Role::KeyBias, Role::KeyNorm]);
        Heads {
            parts: [
                part(config.heads * config.key_length, [Role::QueryScale, Role::QueryBias, Role::QueryNorm]),
                keys,
                HeadPart {
                    width: config.kv_heads * config.value_length,
                    factor: weights.factor(Role::ValueScale),
                    bias: weights.vector(Role::ValueBias),
                    norm: None,
                },
            ],
            length: config.key_length,
            epsilon: config.norm_epsilon,
            turn,
        }
    }

    /// Norm, attention and residual over the rows of a wave, whose hidden state is on the host. Writes the rows' keys and
    /// values to `kv`. `kv` has an arena for each class of layers. `scratch` holds the angles of the rows' positions
    /// ([`CpuScratch::turn`]). Returns false, and changes nothing, if a weight is missing.
    pub fn attend(&self, wave: &mut Wave, scratch: &mut CpuScratch, kv: &mut [KvArena]) -> bool {
        let Some((qkv, output)) = self.projections() else { return false };
        let layer = self.layer_config();
        let Some(mut cache) = Cache::of(&layer, kv, &wave.kv) else { return false };
        let (cpu, config, rows) = (self.cpu, self.config, wave.rows());
        let (width, queries) = (config.embedding, config.heads * config.key_length);
        let stride = queries + config.kv_heads * (config.key_length + config.value_length);
        let CpuScratch {
            normed,
            activations,
            qkv: heads,
            attended,
            cos,
            sin,
            attention: memory,
            adapters,
            ..
        } = scratch;
        let mut adapting = Adapting::layer(cpu, &wave.adapters, self.adapters, self.index, adapters);

        // Taken out of the wave meanwhile, because the wave's spans are read at the same time.
        let mut hidden = core::mem::take(&mut wave.hidden);
        let residual = sized(&mut hidden, rows * width);
        let normed = sized(normed, rows * width);
        let input: &[f32] = match self.weights.vector(Role::AttentionNorm) {
            Some(norm) => {
                cpu::norm_rows(cpu, residual, norm, config.norm_epsilon, normed);
                normed
            }
            None => residual,
        };
        cpu::load(cpu, activations, input, width, Need::of(&qkv));
        let heads = sized(heads, rows * stride);
        cpu::product(cpu, &qkv, activations, heads, stride);
        if let Some(adapting) = &mut adapting {
            adapting.add(AdapterSite::Qkv, (input, width), activations, (&mut *heads, stride));
        }
        self.heads(rows, cos, sin).apply(cpu, heads);
        {
            let _kernel = tracing::trace_span!(target: "weft::kernel", "kv_write").entered();
            let keys = heads.get(queries..).unwrap_or_default();
            let values = heads.get(queries + config.kv_heads * config.key_length..).unwrap_or_default();
            cache.write(cpu, &wave.positions, keys, values, stride);
        }
        let attended_width = config.heads * config.value_length;
        let attended = sized(attended, rows * attended_width);
        {
            let _kernel = tracing::trace_span!(target: "weft::kernel", "attend").entered();
            self.weigh(wave, &cache, heads, stride, attended, memory);
        }
        if let Some(norm) = self.weights.vector(Role::AttentionSubNorm) {
            cpu::norm_in_place(cpu, attended, norm, config.norm_epsilon);
        }
        cpu::load(cpu, activations, attended, attended_width, Need::of(&[output]));
        cpu::product(cpu, &[output], activations, normed, width);
        if let Some(adapting) = &mut adapting {
            let input = (&*attended, attended_width);
            adapting.add(AdapterSite::AttentionOutput, input, activations, (&mut *normed, width));
        }
        let block = Block {
            factor: self.weights.factor(Role::AttentionOutputScale),
            bias: self.weights.vector(Role::AttentionOutputBias),
            norm: self.weights.vector(Role::AttentionPostNorm),
            epsilon: config.norm_epsilon,
            residual_scale: config.residual_scale,
            residual_norm: self
                .weights
                .vector(Role::AttentionResidualNorm)
                .zip(self.weights.vector(Role::AttentionResidualNormBias)),
        };
        block.add(cpu, residual, normed, width);
        wave.hidden = hidden;
        true
    }

    /// The weighted sum of values, for as many spans at a time as fit on the stack: a step allocates nothing.
    fn weigh(
        &self,
        wave: &Wave,
        cache: &Cache<'_>,
        q: &[f32],
        q_stride: usize,
        out: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        const TOGETHER: usize = 64;
        let (config, layer) = (self.config, self.layer_config());
        let params = AttentionParams {
            heads: config.heads,
            scale: config.attention_scale,
            soft_cap: config.attention_cap,
            window: layer.window,
            whole: !config.causal,
        };
        for group in wave.spans.chunks(TOGETHER) {
            let none = AttentionSpan { first_row: 0, rows: 0, start: 0, table: &[], recent: &[] };
            let mut spans = [none; TOGETHER];
            for (slot, span) in spans.iter_mut().zip(group) {
                *slot = AttentionSpan {
                    first_row: span.rows.start,
                    rows: span.rows.len(),
                    start: span.start,
                    table: &cache.rows.tables[span.table.clone()],
                    recent: cache
                        .recent
                        .as_ref()
                        .map_or(&[], |recent| &recent.rows.tables[span.table.clone()]),
                };
            }
            let spans = &spans[..group.len()];
            let out_stride = config.heads * config.value_length;
            attention(
                self.cpu,
                cache.arena,
                layer.kv_index,
                cache.recent(),
                spans,
                &params,
                q,
                q_stride,
                out,
                out_stride,
                scratch,
            );
        }
    }
}

/// The KV cache of a layer: an arena, and where the wave's rows are in it.
struct Cache<'a> {
    arena: &'a mut KvArena,
    rows: &'a WaveKv,
    /// Index of the layer in its arenas.
    index: usize,
    /// The newest tokens, if they are in an arena of their own.
    recent: Option<RecentCache<'a>>,
}

struct RecentCache<'a> {
    arena: &'a mut KvArena,
    rows: &'a WaveKv,
    tokens: usize,
}

impl<'a> Cache<'a> {
    /// `None` if the wave or the host has no such class.
    fn of(layer: &LayerConfig, kv: &'a mut [KvArena], rows: &'a [WaveKv]) -> Option<Self> {
        let (class, index) = (layer.kv_class, layer.kv_index);
        let here = rows.get(class)?;
        let Some(RecentTokens { class: newest, tokens }) = layer.recent else {
            return Some(Self { arena: kv.get_mut(class)?, rows: here, index, recent: None });
        };
        let [arena, recent] = kv.get_disjoint_mut([class, newest]).ok()?;
        let recent = RecentCache { arena: recent, rows: rows.get(newest)?, tokens };
        Some(Self { arena, rows: here, index, recent: Some(recent) })
    }

    /// Stores the keys and values of the wave's rows, which are at `positions` of their contexts.
    fn write(&mut self, cpu: &Cpu, positions: &[u32], keys: &[f32], values: &[f32], stride: usize) {
        let (index, seals) = (self.index, &self.rows.seals);
        let (arena, rows) = match &mut self.recent {
            Some(recent) => (&mut *recent.arena, recent.rows),
            None => (&mut *self.arena, self.rows),
        };
        for (from, to) in &rows.copies {
            arena.copy_slot(index, *from, *to);
        }
        arena.write_rows(cpu, index, &KvRows { slots: &rows.slots, positions, keys, values, stride });
        if let Some(recent) = &self.recent {
            self.arena.seal(cpu, index, recent.arena, index, seals);
        }
    }

    fn recent(&self) -> Option<Recent<'_>> {
        let recent = self.recent.as_ref()?;
        Some(Recent { arena: recent.arena, layer: self.index, tokens: recent.tokens })
    }
}
