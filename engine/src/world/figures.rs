//! Measurements of a model: its memory on the host, and the counters and kernel times of its GPUs.

use super::models::ModelId;
use crate::error::Error;
use bevy_ecs::prelude::*;
use weft_components::{KvPools, Layers, Model, Shards};
use weft_gpu::StepTimes;
use weft_systems::kv::{PrefixStats, PrefixTree, clear_cache};
use weft_systems::on_cpu::{CpuKv, CpuWeights};
use weft_systems::on_gpu::{GpuShard, GpuShards};

/// Host memory of a model, in bytes. [`gpu_shards`] has its GPU memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Weights that have been loaded.
    pub weights: u64,
    /// Pages of the KV cache that sessions hold, and those of contexts that are cached.
    pub kv_in_use: u64,
}

/// Returns the host memory that a model uses now. A page of the KV cache takes memory once it has been written.
///
/// # Errors
/// The model has been unloaded.
pub fn host_memory(world: &World, model: ModelId) -> Result<HostMemory, Error> {
    world.get::<Model>(model.0).ok_or(Error::NoModel)?;
    let layers = world.get::<Layers>(model.0).map_or(&[][..], Layers::entities);
    let owners = layers.iter().chain(core::iter::once(&model.0));
    let shards = owners.filter_map(|owner| world.get::<Shards>(*owner)).flat_map(Shards::entities);
    let weights = shards.filter_map(|shard| world.get::<CpuWeights>(*shard)).map(CpuWeights::bytes).sum();
    let pools = world.get::<KvPools>(model.0).map_or(&[][..], |pools| &pools.0);
    let arenas = world.get::<CpuKv>(model.0).map_or(&[][..], |kv| &kv.0);
    let used =
        pools.iter().zip(arenas).map(|(pool, arena)| (pool.capacity() - pool.free()) * arena.slot_bytes());
    let kv_in_use = used.sum::<usize>() as u64;
    Ok(HostMemory { weights, kv_in_use })
}

/// What the prefix cache of a model has saved, since it was loaded.
///
/// # Errors
/// The model has been unloaded.
pub fn prefix_stats(world: &World, model: ModelId) -> Result<PrefixStats, Error> {
    world.get::<PrefixTree>(model.0).map(|tree| tree.stats).ok_or(Error::NoModel)
}

/// Drops the contexts of a model that no session holds any more.
///
/// # Errors
/// The model has been unloaded.
pub fn clear_prefix_cache(world: &mut World, model: ModelId) -> Result<(), Error> {
    world.get::<PrefixTree>(model.0).ok_or(Error::NoModel)?;
    clear_cache(world, model.0);
    Ok(())
}

/// Returns the GPU shards of a model: what each GPU holds of it, and counters of its work. Empty if the model is on the
/// CPU or has been unloaded.
pub fn gpu_shards(world: &World, model: ModelId) -> &[GpuShard] {
    world.get::<GpuShards>(model.0).map_or(&[], |model| &model.0)
}

/// Starts or stops timing the kernels of a model's GPU steps. For profilers: timing costs some microseconds per kernel.
/// Returns false if a GPU cannot time kernels or the model is on no GPU.
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

/// Takes the kernel times that each GPU of a model has measured since the last call, in the order of [`gpu_shards`].
/// `None` for a GPU that is not timed.
pub fn take_gpu_times(world: &mut World, model: ModelId) -> Vec<Option<StepTimes>> {
    match world.get_mut::<GpuShards>(model.0) {
        Some(mut model) => model.0.iter_mut().map(GpuShard::take_times).collect(),
        None => Vec::new(),
    }
}
