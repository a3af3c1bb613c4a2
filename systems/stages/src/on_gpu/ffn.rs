//! The feed-forward network on a GPU.

use super::GpuModel;
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, Model, OnGpu};

/// Records the feed-forward network of the current layer, if it is placed on a GPU and its attention was recorded.
pub fn ffn_gpu(
    mut current: ResMut<'_, CurrentLayer>,
    layers: Query<'_, '_, &OnGpu>,
    mut models: Query<'_, '_, &mut GpuModel, With<Model>>,
) {
    let Ok(OnGpu(number)) = layers.get(current.layer) else { return };
    let Ok(mut model) = models.get_mut(current.model) else { return };
    let Some(part) = model.on(*number) else { return };
    let _span = tracing::trace_span!("ffn", layer = current.index).entered();
    current.computed = current.attended && part.record_ffn(current.index);
}
