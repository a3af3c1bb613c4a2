//! Device memory that a model's shard counts with against its GPU's memory budget.

use bevy_ecs::prelude::*;
use std::collections::BTreeMap;
use weft_components::Place;

use super::gpu_shard::GpuShards;

/// Bytes of a shard's layers, ends and largest wave.
#[derive(Clone, Default)]
pub(super) struct Reserved {
    /// Bytes of the weights and of the KV cache of each layer.
    layers: BTreeMap<usize, (u64, u64)>,
    /// Bytes of the ends and of the buffers of the largest wave.
    pub(super) fixed: u64,
}

impl Reserved {
    /// Bytes in all.
    pub(super) fn bytes(&self) -> u64 {
        let layers = self.layers.values().map(|(weights, kv)| weights.saturating_add(*kv));
        layers.fold(self.fixed, u64::saturating_add)
    }

    /// Counts a layer.
    pub(super) fn add_layer(&mut self, layer: usize, bytes: (u64, u64)) {
        self.layers.insert(layer, bytes);
    }

    /// Counts a layer's weights no longer; with `cache`, its KV cache neither.
    pub(super) fn drop_layer(&mut self, layer: usize, cache: bool) {
        match self.layers.get_mut(&layer) {
            Some((weights, _)) if !cache => *weights = 0,
            _ => drop(self.layers.remove(&layer)),
        }
    }

    /// Bytes that all models of a world count with on a GPU.
    pub(super) fn on(world: &World, place: Place) -> u64 {
        let Some(mut models) = world.try_query::<&GpuShards>() else { return 0 };
        let shards =
            models.iter(world).flat_map(|model| &model.0).filter(|gpu_shard| gpu_shard.place == place);
        shards.map(|gpu_shard| gpu_shard.reserved.bytes()).fold(0, u64::saturating_add)
    }
}
