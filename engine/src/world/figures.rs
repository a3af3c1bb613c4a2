//! What a model needs and does: its memory on the host, and the counters and kernel times of its GPUs.

use super::models::ModelId;
use crate::error::Error;
use bevy_ecs::prelude::*;
use weft_components::{KvPool, Layers, Model, Shards};
use weft_gpu::StepTimes;
use weft_systems::on_cpu::{CpuKv, CpuWeights};
use weft_systems::on_gpu::{GpuShard, GpuShards};

/// Memory of a model on the host, in bytes. Memory on GPUs is in [`gpu_shards`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Weights that have been loaded.
    pub weights: u64,
    /// Pages of the KV cache that sessions hold.
    pub kv_in_use: u64,
}

/// Returns the memory that a model uses on the host now. A page of the KV cache uses memory once it has been written.
///
/// # Errors
/// The model has been unloaded.
pub fn host_memory(world: &World, model: ModelId) -> Result<HostMemory, Error> {
    world.get::<Model>(model.0).ok_or(Error::NoModel)?;
    let layers = world.get::<Layers>(model.0).map_or(&[][..], Layers::entities);
    let owners = layers.iter().chain(core::iter::once(&model.0));
    let shards = owners.filter_map(|owner| world.get::<Shards>(*owner)).flat_map(Shards::entities);
    let weights = shards.filter_map(|shard| world.get::<CpuWeights>(*shard)).map(CpuWeights::bytes).sum();
    let used = world.get::<KvPool>(model.0).map_or(0, |pool| pool.capacity() - pool.free());
    let slot = world.get::<CpuKv>(model.0).map_or(0, |kv| kv.0.slot_bytes());
    Ok(HostMemory { weights, kv_in_use: (used * slot) as u64 })
}

/// Returns what each GPU holds of a model and has computed for it; empty if the model is on the CPU or has been unloaded.
pub fn gpu_shards(world: &World, model: ModelId) -> &[GpuShard] {
    world.get::<GpuShards>(model.0).map_or(&[], |model| &model.0)
}

/// Starts or stops timing the kernels of a model's steps on its GPUs. For a profiler: timing costs some microseconds per
/// kernel. Returns false if a GPU cannot time kernels, or the model has no GPU.
pub fn time_gpu(world: &mut World, model: ModelId, on: bool) -> bool {
    match world.get_mut::<GpuShards>(model.0) {
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

/// Takes the times that each GPU of a model has measured since the last call, in the order of [`gpu_shards`]. `None` for a
/// GPU that is not timed.
pub fn take_gpu_times(world: &mut World, model: ModelId) -> Vec<Option<StepTimes>> {
    match world.get_mut::<GpuShards>(model.0) {
        Some(mut model) => model.0.iter_mut().map(GpuShard::take_times).collect(),
        None => Vec::new(),
    }
}
