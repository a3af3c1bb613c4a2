//! What GPUs did for a model: counters, and the time of their kernels.

use crate::engine::{Engine, ModelId};
use weft_gpu::StepTimes;
use weft_systems::gpu::{GpuModel, GpuPart};

impl Engine {
    /// What each GPU holds of a model and has done for it; empty where the model is on the CPU or gone.
    pub fn gpu_parts(&self, model: ModelId) -> &[GpuPart] {
        self.world.get::<GpuModel>(model.0).map_or(&[], |model| &model.0)
    }

    /// Times the kernels of a model's steps on its GPUs from here on, or of none: for a profiler, since it costs some
    /// microseconds a kernel. `false` where a GPU cannot, or there is none.
    pub fn time_gpu(&mut self, model: ModelId, on: bool) -> bool {
        match self.world.get_mut::<GpuModel>(model.0) {
            Some(mut model) => {
                let mut all = true;
                for part in &mut model.0 {
                    all &= part.time(on);
                }
                all
            }
            None => false,
        }
    }

    /// Takes what has been timed on each GPU of a model since the last time and has come back, in the order of
    /// [`Engine::gpu_parts`]. `None` for a GPU that is not timed.
    pub fn take_gpu_times(&mut self, model: ModelId) -> Vec<Option<StepTimes>> {
        match self.world.get_mut::<GpuModel>(model.0) {
            Some(mut model) => model.0.iter_mut().map(GpuPart::take_times).collect(),
            None => Vec::new(),
        }
    }
}
