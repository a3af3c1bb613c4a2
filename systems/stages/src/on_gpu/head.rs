//! The head on a GPU.

use super::gpu_shard::GpuShards;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, EndsHeldBy, Model, Resident, Wave, WaveOf};

/// Records the head of waves that have reached it on a GPU. A wave waits while the head's weights are missing.
pub fn head_gpu(
    mut waves: Query<'_, '_, (Entity, &mut Wave, &WaveOf)>,
    mut models: Query<'_, '_, (&EndsHeldBy, &mut GpuShards), (With<Model>, With<Resident>)>,
) {
    for (entity, mut wave, of) in &mut waves {
        if wave.at != AtLayer::Head {
            continue;
        }
        let Ok((EndsHeldBy(ends), mut model)) = models.get_mut(of.0) else { continue };
        let Some(gpu_shard) = model.on(ends.head) else { continue };
        if gpu_shard.occupied == Some(entity) {
            let _span = tracing::trace_span!("head", rows = wave.logit_rows.len()).entered();
            // Without a plan, which is made anew after a layer came or went, the wave stays before the head.
            if gpu_shard.record_head() {
                wave.at = AtLayer::OnDevice;
            }
        }
    }
}
