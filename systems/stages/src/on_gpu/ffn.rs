//! The feed-forward network on a GPU.

use super::gpu_shard::GpuShards;
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, Model};

/// Records the feed-forward network of the current layer if it is placed on a GPU and its attention is recorded.
pub fn ffn_gpu(
    mut current: ResMut<'_, CurrentLayer>,
    mut models: Query<'_, '_, &mut GpuShards, With<Model>>,
) {
    if !current.attended {
        return;
    }
    let Ok(mut model) = models.get_mut(current.model) else { return };
    let Some(gpu_shard) =
        model.on(current.place).filter(|gpu_shard| gpu_shard.occupied == Some(current.wave))
    else {
        return;
    };
    let _span = tracing::trace_span!("ffn", layer = current.index).entered();
    current.computed = gpu_shard.record_ffn(current.index);
}
