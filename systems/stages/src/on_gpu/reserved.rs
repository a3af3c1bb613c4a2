//! Device memory reserved for a model in its GPU's memory budget: weights, KV caches and the buffers of waves. Adapters,
//! masks and readbacks are not counted.

use std::collections::BTreeMap;

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

    /// Reserves memory for a layer.
    pub(super) fn add_layer(&mut self, layer: usize, bytes: (u64, u64)) {
        self.layers.insert(layer, bytes);
    }

    /// Frees the memory of a layer's weights; with `cache`, also that of its KV cache.
    pub(super) fn drop_layer(&mut self, layer: usize, cache: bool) {
        match self.layers.get_mut(&layer) {
            Some((weights, _)) if !cache => *weights = 0,
            _ => drop(self.layers.remove(&layer)),
        }
    }
}
