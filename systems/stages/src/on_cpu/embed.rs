//! Embedding: turns tokens into rows of hidden state. Encoders add embeddings of the position and of the token type,
//! and norm the sum.

use super::{self as cpu, CpuPlace, CpuPlan, CpuScratch, Weights, sized};
use crate::host::HostCpu;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, EndsHeldBy, Model, ModelConfig, TensorRole, Wave, WaveOf};
use weft_platform::{Cpu, CpuMatrix};

/// Looks up the rows of waves that start, and the angles of their positions. A wave waits while the embedding, or the
/// rotary factors, have not arrived.
pub fn embed_cpu(
    host: Res<'_, HostCpu>,
    here: Res<'_, CpuPlace>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf, &mut CpuScratch)>,
    models: Query<'_, '_, (&ModelConfig, &EndsHeldBy, &CpuPlan), With<Model>>,
) {
    for (mut wave, of, mut scratch) in &mut waves {
        if wave.at != AtLayer::Embed {
            continue;
        }
        let Ok((config, EndsHeldBy(ends), plan)) = models.get(of.0) else {
            continue;
        };
        if ends.embed != here.0 {
            continue;
        }
        let (Some(ropes), Some(embedding), Some(more)) =
            (&plan.ropes, plan.model.matrix(TensorRole::TokenEmbedding), Further::of(config, &plan.model))
        else {
            continue;
        };
        let _span = tracing::trace_span!("embed", rows = wave.rows()).entered();
        let wave = &mut *wave;
        let width = config.embedding;
        let hidden = sized(&mut wave.hidden, wave.tokens.len() * width);
        let tokens = &wave.tokens;
        cpu::by_rows(&host.0, hidden, width, |row, out| embedding.row(tokens[row] as usize, out));
        cpu::scale_rows(&host.0, hidden, width, config.embedding_scale);
        more.add(&host.0, config, &wave.positions, hidden, sized(&mut scratch.normed, width));
        scratch.turn(ropes, &wave.positions);
        wave.place = Some(here.0);
        wave.at = AtLayer::Layer(0);
    }
}

/// Further steps of an encoder on the embeddings of tokens.
struct Further<'a> {
    positions: Option<&'a CpuMatrix>,
    types: Option<&'a CpuMatrix>,
    /// Weight and bias.
    norm: Option<(&'a [f32], &'a [f32])>,
}

impl<'a> Further<'a> {
    /// The steps that a model has. `None` if a tensor has not arrived.
    fn of(config: &ModelConfig, weights: &'a Weights) -> Option<Self> {
        let norm = || {
            let weight = weights.vector(TensorRole::EmbeddingNorm)?;
            Some((weight, weights.vector(TensorRole::EmbeddingNormBias)?))
        };
        let there = Self {
            positions: weights.matrix(TensorRole::PositionEmbedding),
            types: weights.matrix(TensorRole::TokenTypes),
            norm: norm(),
        };
        let wanted = (config.learned_positions, config.token_types > 0, config.embedding_norm);
        let found = (there.positions.is_some(), there.types.is_some(), there.norm.is_some());
        (found == wanted).then_some(there)
    }

    /// Changes rows of embeddings. `row` is scratch memory for one row.
    fn add(&self, cpu: &Cpu, config: &ModelConfig, positions: &[u32], hidden: &mut [f32], row: &mut [f32]) {
        if let Some(matrix) = self.positions {
            for (position, hidden) in positions.iter().zip(hidden.chunks_exact_mut(row.len())) {
                matrix.row(*position as usize, row);
                cpu.kernels.add(hidden, row);
            }
        }
        if let Some(matrix) = self.types {
            // All tokens of a text get the first type. Other types would distinguish the sentences of a pair.
            matrix.row(0, row);
            hidden.chunks_exact_mut(row.len()).for_each(|hidden| cpu.kernels.add(hidden, row));
        }
        if let Some((weight, bias)) = self.norm {
            cpu::layer_norm_rows(cpu, hidden, weight, bias, config.norm_epsilon);
        }
    }
}
