//! Attention on a GPU.

use super::GpuModel;
use bevy_ecs::prelude::*;
use weft_components::{CurrentLayer, Model, ModelConfig, OnGpu, Wave};

/// Records the attention of the current layer, if it is placed on a GPU that the wave is on or can enter.
pub fn attention_gpu(
    mut current: ResMut<'_, CurrentLayer>,
    layers: Query<'_, '_, &OnGpu>,
    mut models: Query<'_, '_, (&ModelConfig, &mut GpuModel), With<Model>>,
    mut waves: Query<'_, '_, &mut Wave>,
) {
    let Ok(OnGpu(number)) = layers.get(current.layer) else { return };
    let Ok((config, mut model)) = models.get_mut(current.model) else { return };
    let (Some(part), Ok(mut wave)) = (model.on(*number), waves.get_mut(current.wave)) else { return };
    if !wave.may_enter(weft_components::Place::Gpu(*number)) || !part.enter(current.wave, &mut wave, config) {
        return;
    }
    let _span = tracing::trace_span!("attention", layer = current.index).entered();
    current.attended = part.record_attention(current.index);
}
