//! Embedding: tokens to rows of hidden state.

mod gpu;

pub use gpu::embed_gpu;

use crate::cpu::{self, CpuBackend, CpuPlan, CpuScratch, sized};
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Ends, Model, ModelConfig, Place, TensorRole, Wave, WaveOf};

/// Looks up the rows of waves that start, and the angles of their positions. Waits where the embedding, or the
/// rotary factors that come with it, are not there.
pub fn embed_cpu(
    backend: Res<'_, CpuBackend>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf, &mut CpuScratch)>,
    models: Query<'_, '_, (&ModelConfig, &Ends, &CpuPlan), With<Model>>,
) {
    for (mut wave, of, mut scratch) in &mut waves {
        if wave.at != AtLayer::Embed {
            continue;
        }
        let Ok((config, ends, plan)) = models.get(of.0) else {
            continue;
        };
        if ends.embed != Place::Cpu {
            continue;
        }
        let Some(embedding) =
            plan.model.matrix(TensorRole::TokenEmbedding).filter(|_| !plan.ropes.is_empty())
        else {
            continue;
        };
        let _span = tracing::trace_span!("embed", rows = wave.rows()).entered();
        let wave = &mut *wave;
        let width = config.embedding;
        let hidden = sized(&mut wave.hidden, wave.tokens.len() * width);
        for (token, row) in wave.tokens.iter().zip(hidden.chunks_exact_mut(width)) {
            embedding.row(*token as usize, row);
        }
        cpu::scale_rows(&backend.0, hidden, width, config.embedding_scale);
        let CpuScratch { cos, sin, .. } = &mut *scratch;
        cos.clear();
        sin.clear();
        plan.ropes.iter().for_each(|rope| rope.fill(&wave.positions, cos, sin));
        wave.at = AtLayer::Layer(0);
    }
}
