//! Logits processors on a GPU: the token masks of sessions, and the caller's WGSL. They run after the head and before a
//! token is chosen, on the logits of all rows of a wave.

use super::gpu_shard::{GpuShard, GpuShards};
use super::scratch::Scratch;
use super::transfer::GpuFailed;
use super::upload::Upload;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{Model, ModelConfig};
use weft_gpu::{Bound, Gpu, GpuError, LogitsMask, wgpu};
#[cfg(not(target_family = "wasm"))]
use weft_gpu::{LogitsBuffers, LogitsKernel, LogitsShader};

/// A logits processor in WGSL, and the words that it reads for all rows. There are no words for single rows. Models on
/// the CPU do not run it: there, a system in the set `Process` does the same.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Debug, PartialEq)]
pub struct LogitsProcessor {
    /// The shader.
    pub shader: LogitsShader,
    /// The words that its function `data` reads.
    pub data: Vec<u32>,
}

/// The logits processors of a model on its GPUs, in the order in which they run. An immutable component of the model:
/// insert a new one to change them.
#[cfg(not(target_family = "wasm"))]
#[derive(Component, Clone, Debug, Default)]
#[component(immutable)]
pub struct GpuLogits(pub Vec<LogitsProcessor>);

/// A logits processor does not compile. The model runs without its processors. A component of the model.
#[derive(Component, Clone, Debug)]
pub struct GpuLogitsFailed(pub GpuError);

/// The kernels of logits processors, bound to the buffers of waves.
#[derive(Default)]
pub(super) struct Processing {
    mask: Option<MaskStep>,
    words: Vec<u32>,
    #[cfg(not(target_family = "wasm"))]
    shaders: Vec<(LogitsKernel, Option<wgpu::Buffer>)>,
    bound: Vec<(Bound, [u32; 3])>,
    /// The buffers that `bound` is bound to.
    scratch: Option<Arc<Scratch>>,
}

/// The mask kernel and the buffer of masks, for a number of rows of logits.
struct MaskStep {
    bound: Bound,
    buffer: wgpu::Buffer,
    rows: usize,
    upload: Upload,
    /// The buffers that it is bound to.
    scratch: Arc<Scratch>,
}

impl MaskStep {
    fn new(gpu: &Gpu, mask: LogitsMask, rows: usize, scratch: &Arc<Scratch>) -> Result<Self, GpuError> {
        // A row of a mask has fewer words than a row of logits, whose buffer exists already.
        let buffer = gpu.storage("logits_mask", mask.bytes(u32::try_from(rows).unwrap_or(u32::MAX)))?;
        let kernel = gpu.pipelines.get(&mask.spec());
        let buffers = [&scratch.wave, &scratch.logits, &buffer].map(wgpu::Buffer::as_entire_binding);
        let numbered: Vec<_> = (0..).zip(buffers).collect();
        let bound = Bound::new(gpu, kernel, &numbered);
        Ok(Self { bound, buffer, rows, upload: Upload::default(), scratch: Arc::clone(scratch) })
    }
}

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

#[cfg(not(target_family = "wasm"))]
impl Processing {
    /// Binds the processors to the buffers of waves, if the buffers have changed.
    fn bind(&mut self, gpu: &Gpu, scratch: &Arc<Scratch>) {
        let Self { shaders, bound, scratch: found, .. } = self;
        if found.as_ref().is_some_and(|found| Arc::ptr_eq(found, scratch)) {
            return;
        }
        bound.clear();
        bound.extend(shaders.iter().map(|(kernel, data)| {
            let buffers = LogitsBuffers {
                wave: &scratch.wave,
                logits: &scratch.logits,
                row_data: None,
                data: data.as_ref(),
            };
            (kernel.bind(gpu, &buffers), kernel.grid(1))
        }));
        *found = (!bound.is_empty()).then(|| Arc::clone(scratch));
    }

    /// Compiles `list` in place of the previous processors.
    fn compile(&mut self, gpu: &Gpu, config: &ModelConfig, list: &GpuLogits) -> Result<(), GpuError> {
        self.shaders.clear();
        self.bound.clear();
        self.scratch = None;
        for LogitsProcessor { shader, data } in &list.0 {
            // Token ids are 32 bits wide. On native platforms the future is ready at once.
            let kernel = pollster::block_on(LogitsKernel::compile(gpu, config.vocabulary as u32, shader))?;
            let buffer = (!data.is_empty())
                .then(|| {
                    let buffer = gpu.storage("logits_data", 4 * data.len() as u64)?;
                    gpu.write(&buffer, 0, bytemuck::cast_slice(data));
                    Ok::<_, GpuError>(buffer)
                })
                .transpose()?;
            self.shaders.push((kernel, buffer));
        }
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
            if let Err(error) = processing.compile(gpu, config, &logits) {
                tracing::error!(%error, "a logits processor does not compile");
                processing.shaders.clear();
                commands.entity(entity).remove::<GpuLogits>().insert(GpuLogitsFailed(error));
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
