//! Attention on a GPU.

use super::gpu_shard::GpuShards;
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, Model};

/// Records the attention of the current layer if it is placed on a GPU and is not recorded yet.
pub fn attention_gpu(
    mut current: ResMut<'_, CurrentLayer>,
    mut models: Query<'_, '_, &mut GpuShards, With<Model>>,
) {
    if current.attended {
        return;
    }
    let Ok(mut model) = models.get_mut(current.model) else { return };
    let Some(gpu_shard) =
        model.on(current.place).filter(|gpu_shard| gpu_shard.occupied == Some(current.wave))
    else {
        return;
    };
    let _span = tracing::trace_span!("attention", layer = current.index).entered();
    current.attended = gpu_shard.record_attention(current.index);
}
