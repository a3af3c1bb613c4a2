//! What a model takes and does: its memory on the host, and the counters and kernel times of its GPUs.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
use weft_components::{KvPool, Layers, Model, Shards};
use weft_gpu::StepTimes;
use weft_systems::on_cpu::{CpuKv, CpuWeights};
use weft_systems::on_gpu::{GpuModel, GpuPart};

/// Memory of a model on the host, in bytes. GPUs' is in [`Engine::gpu_parts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Weights that have arrived.
    pub weights: u64,
    /// Pages of the KV cache that sessions hold.
    pub kv_in_use: u64,
}

impl Engine {
    /// What a model takes on the host now. The KV cache takes memory only as its pages are first written.
    ///
    /// # Errors
    /// The model is gone.
    pub fn host_memory(&self, model: ModelId) -> Result<HostMemory, Error> {
        let world = &self.world;
        world.get::<Model>(model.0).ok_or(Error::NoModel)?;
        let layers = world.get::<Layers>(model.0).map_or(&[][..], Layers::entities);
        let owners = layers.iter().chain(core::iter::once(&model.0));
        let shards = owners.filter_map(|owner| world.get::<Shards>(*owner)).flat_map(Shards::entities);
        let weights = shards.filter_map(|shard| world.get::<CpuWeights>(*shard)).map(CpuWeights::bytes).sum();
        let used = world.get::<KvPool>(model.0).map_or(0, |pool| pool.capacity() - pool.free());
        let slot = world.get::<CpuKv>(model.0).map_or(0, |kv| kv.0.slot_bytes());
        Ok(HostMemory { weights, kv_in_use: (used * slot) as u64 })
    }

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
