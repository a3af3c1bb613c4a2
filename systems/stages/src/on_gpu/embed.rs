//! Embedding on a GPU.

use super::gpu_shard::GpuShards;
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, EndsHeldBy, Model, ModelConfig, Resident, ShardOf, TensorRole, Wave, WaveOf, WeightShard,
};

/// Records the embedding of waves that start on a GPU. A wave waits while the plan or the weights are missing.
pub fn embed_gpu(
    mut waves: Query<'_, '_, (Entity, &mut Wave, &WaveOf)>,
    mut models: Query<'_, '_, (&ModelConfig, &EndsHeldBy, &mut GpuShards), With<Model>>,
    shards: Query<'_, '_, (&WeightShard, &ShardOf), With<Resident>>,
) {
    for (entity, mut wave, of) in &mut waves {
        if wave.at != AtLayer::Embed {
            continue;
        }
        let Ok((config, EndsHeldBy(ends), mut model)) = models.get_mut(of.0) else { continue };
        let Some(gpu_shard) = model.on(ends.embed) else { continue };
        for role in read_roles(config) {
            if !gpu_shard.has(role)
                && shards.iter().any(|(shard, owner)| shard.role == role && owner.0 == of.0)
            {
                gpu_shard.arrived(role);
            }
        }
        if read_roles(config).all(|role| gpu_shard.has(role)) && gpu_shard.enter(entity, &mut wave, config) {
            let _span = tracing::trace_span!("embed", rows = wave.rows()).entered();
            gpu_shard.record_embed();
            wave.at = AtLayer::Layer(0);
        }
    }
}

/// Tensors that the embedding reads.
fn read_roles(config: &ModelConfig) -> impl Iterator<Item = TensorRole> + use<> {
    [
        (true, TensorRole::TokenEmbedding),
        (config.learned_positions, TensorRole::PositionEmbedding),
        (config.token_types > 0, TensorRole::TokenTypes),
        (config.embedding_norm, TensorRole::EmbeddingNorm),
        (config.embedding_norm, TensorRole::EmbeddingNormBias),
    ]
    .into_iter()
    .filter_map(|(read, role)| read.then_some(role))
}
