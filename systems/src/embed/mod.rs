//! Embedding: tokens to rows of hidden state.

use crate::cpu::{CpuPlan, CpuScratch, sized};
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Model, ModelConfig, OnCpu, TensorRole, Wave, WaveOf};

/// Looks up the rows of waves that start, and the angles of their positions. Waits where the embedding, or the
/// rotary factors that come with it, are not there.
pub fn embed_cpu(
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf, &mut CpuScratch)>,
    models: Query<'_, '_, (&ModelConfig, &CpuPlan), (With<Model>, With<OnCpu>)>,
) {
    for (mut wave, of, mut scratch) in &mut waves {
        if wave.at != AtLayer::Embed {
            continue;
        }
        let Ok((config, plan)) = models.get(of.0) else {
            continue;
        };
        let (Some(embedding), Some(rope)) = (plan.model.matrix(TensorRole::TokenEmbedding), &plan.rope)
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
        let scratch = &mut *scratch;
        rope.fill(&wave.positions, &mut scratch.cos, &mut scratch.sin);
        wave.at = AtLayer::Layer(0);
    }
}
