//! Logits processors on a GPU: the token masks of sessions, and the caller's WGSL. They run after the head and before a
//! token is chosen, on the logits of all rows of a wave.

use super::scratch::Scratch;
use super::upload::Upload;
use bevy_ecs::prelude::*;
use std::sync::Arc;
#[cfg(not(target_family = "wasm"))]
use weft_components::ModelConfig;
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

/// A logits processor does not compile. The model runs without its processors. A component of the model until others
/// compile.
#[derive(Component, Clone, Debug)]
pub struct GpuLogitsFailed(pub GpuError);

/// The kernels of logits processors, bound to the buffers of waves.
#[derive(Default)]
pub(super) struct Processing {
    pub(super) mask: Option<MaskStep>,
    pub(super) words: Vec<u32>,
    #[cfg(not(target_family = "wasm"))]
    pub(super) shaders: Vec<(LogitsKernel, Option<wgpu::Buffer>)>,
    pub(super) bound: Vec<(Bound, [u32; 3])>,
    /// The buffers that `bound` is bound to.
    #[cfg(not(target_family = "wasm"))]
    pub(super) scratch: Option<Arc<Scratch>>,
}

/// The mask kernel and the buffer of masks, for a number of rows of logits.
pub(super) struct MaskStep {
    pub(super) bound: Bound,
    pub(super) buffer: wgpu::Buffer,
    pub(super) rows: usize,
    pub(super) upload: Upload,
    /// The buffers that it is bound to.
    pub(super) scratch: Arc<Scratch>,
}

impl MaskStep {
    pub(super) fn new(
        gpu: &Gpu,
        mask: LogitsMask,
        rows: usize,
        scratch: &Arc<Scratch>,
    ) -> Result<Self, GpuError> {
        // A row of a mask has fewer words than a row of logits, whose buffer exists already.
        let buffer = gpu.storage("logits_mask", mask.bytes(u32::try_from(rows).unwrap_or(u32::MAX)))?;
        let kernel = gpu.pipelines.get(&mask.spec());
        let buffers = [&scratch.wave, &scratch.logits, &buffer].map(wgpu::Buffer::as_entire_binding);
        let numbered: Vec<_> = (0..).zip(buffers).collect();
        let bound = Bound::new(gpu, kernel, &numbered);
        Ok(Self { bound, buffer, rows, upload: Upload::default(), scratch: Arc::clone(scratch) })
    }
}

#[cfg(not(target_family = "wasm"))]
impl Processing {
    /// Binds the processors to the buffers of waves, if the buffers have changed.
    pub(super) fn bind(&mut self, gpu: &Gpu, scratch: &Arc<Scratch>) {
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
    pub(super) fn compile(
        &mut self,
        gpu: &Gpu,
        config: &ModelConfig,
        list: &GpuLogits,
    ) -> Result<(), GpuError> {
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
