//! Running logits processors on a GPU, and compiling those of models.

use super::gpu_shard::GpuShard;
#[cfg(not(target_family = "wasm"))]
use super::gpu_shard::GpuShards;
#[cfg(not(target_family = "wasm"))]
use super::logits::{GpuLogits, GpuLogitsFailed};
use super::logits::{MaskStep, Processing};
use super::transfer::GpuFailed;
use bevy_ecs::prelude::*;
use std::sync::Arc;
#[cfg(not(target_family = "wasm"))]
use weft_components::{Model, ModelConfig};
use weft_gpu::{GpuError, LogitsMask};

impl GpuShard {
    /// Records the processors that change the logits of the wave on the device. `masks` has the mask of each row of
    /// logits that has one, in the order of the rows.
    pub(super) fn record_processing<'m>(
        &mut self,
        vocabulary: usize,
        masks: impl Iterator<Item = Option<&'m [u32]>> + Clone,
    ) -> Result<(), GpuError> {
        let Self { gpu, scratch, processing, commands, shape, most, .. } = self;
        let rows = shape.logit_rows;
        #[cfg(not(target_family = "wasm"))]
        processing.bind(gpu, scratch);
        for (bound, [columns, _, _]) in &processing.bound {
            commands.dispatch(bound, [*columns, rows, 1]);
        }
        if masks.clone().all(|mask| mask.is_none()) {
            return Ok(());
        }
        // Token ids are 32 bits wide.
        let mask = LogitsMask { vocabulary: vocabulary as u32 };
        let stale = |step: &MaskStep| !Arc::ptr_eq(&step.scratch, scratch) || step.rows < rows as usize;
        if processing.mask.as_ref().is_none_or(stale) {
            processing.mask = Some(MaskStep::new(gpu, mask, most.logit_rows.max(rows as usize), scratch)?);
        }
        let Processing { mask: Some(step), words, .. } = processing else { return Ok(()) };
        words.clear();
        let row_words = mask.row_words() as usize;
        for mask in masks {
            let start = words.len();
            match mask {
                Some(mask) => words.extend(mask.iter().copied().take(row_words)),
                None => words.resize(start + row_words, u32::MAX),
            }
            // Tokens beyond the mask's last word are forbidden.
            words.resize(start + row_words, 0);
        }
        step.upload.write(gpu, &step.buffer, words);
        commands.dispatch(&step.bound, mask.grid(rows));
        Ok(())
    }
}

/// Compiles the logits processors of models on the GPUs that compute their heads. Runs in the set `Load`.
#[cfg(not(target_family = "wasm"))]
pub fn plan_gpu_logits(
    mut commands: Commands<'_, '_>,
    mut models: Query<'_, '_, (Entity, &ModelConfig, &mut GpuShards, Ref<'_, GpuLogits>), With<Model>>,
) {
    for (entity, config, mut model, logits) in &mut models {
        for gpu_shard in model.0.iter_mut().filter(|gpu_shard| gpu_shard.ends.held().1) {
            if !logits.is_changed() && gpu_shard.processing.shaders.len() == logits.0.len() {
                continue;
            }
            let GpuShard { gpu, processing, .. } = gpu_shard;
            match processing.compile(gpu, config, &logits) {
                Ok(()) => {
                    commands.entity(entity).remove::<GpuLogitsFailed>();
                }
                Err(error) => {
                    tracing::error!(%error, "a logits processor does not compile");
                    processing.shaders.clear();
                    commands.entity(entity).remove::<GpuLogits>().insert(GpuLogitsFailed(error));
                }
            }
        }
    }
}

/// Drops the processors of a model whose `GpuLogits` was removed. An observer.
#[cfg(not(target_family = "wasm"))]
pub fn drop_gpu_logits(removed: On<'_, '_, Remove<GpuLogits>>, mut models: Query<'_, '_, &mut GpuShards>) {
    if let Ok(mut model) = models.get_mut(removed.entity) {
        for gpu_shard in &mut model.0 {
            gpu_shard.processing = Processing::default();
        }
    }
}

/// Reports that a processor could not be recorded because the device has no memory for masks.
pub(super) fn record_failed(commands: &mut Commands<'_, '_>, model: Entity, error: GpuError) {
    commands.entity(model).insert(GpuFailed(error));
}
