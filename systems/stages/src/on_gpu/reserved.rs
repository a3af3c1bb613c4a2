//! Device memory reserved for a model in its GPU's memory budget: weights, KV caches and the buffers of waves. Adapters,
//! masks and readbacks are not counted.

use super::gpu_shard::GpuShards;
use bevy_ecs::prelude::*;
use std::collections::BTreeMap;
use weft_components::Place;

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

    /// Bytes reserved on a GPU for all models of a world.
    pub(super) fn on(world: &World, place: Place) -> u64 {
        let Some(mut models) = world.try_query::<&GpuShards>() else { return 0 };
        let shards =
            models.iter(world).flat_map(|model| &model.0).filter(|gpu_shard| gpu_shard.place == place);
        shards.map(|gpu_shard| gpu_shard.reserved.bytes()).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{move_ends, move_layer};
    use crate::on_gpu::testing::{empty, tiny};
    use crate::place::{GpuLayers, LoadError};
    use crate::related;
    use weft_components::{Ends, HeldBy, Layers, PlacedOn};
    use weft_gpu::GpuError;

    const GPU: Place = Place::new(1);

    /// Bytes reserved for tiny-llama if so many of its layers are on the GPU.
    fn bytes(layers: usize) -> u64 {
        let mut world = empty(Some(1 << 40));
        tiny(&mut world, GpuLayers::Count(layers)).unwrap();
        Reserved::on(&world, GPU)
    }

    fn held(world: &World, model: Entity) -> usize {
        let layers = related::<Layers>(world, model);
        layers.into_iter().filter(|layer| world.get::<HeldBy>(*layer).unwrap().0 == GPU).count()
    }

    #[test]
    fn a_layer_that_moves_counts_against_the_budget() {
        let [one, two] = [1, 2].map(bytes);
        assert!(0 < one && one < two);
        for (budget, fits) in [(two - 1, false), (two, true)] {
            let mut world = empty(Some(budget));
            let model = tiny(&mut world, GpuLayers::Count(1)).unwrap();
            let layer = related::<Layers>(&world, model)[1];
            match move_layer(&mut world, layer, GPU) {
                Ok(()) => assert!(fits),
                Err(error @ LoadError::Place { .. }) => {
                    let reason: &GpuError = error.place_reason().unwrap();
                    assert!(matches!(reason, GpuError::DoesNotFit { .. }) && !fits, "{reason}");
                    assert_eq!(world.get::<PlacedOn>(layer).unwrap().0, Place::new(0));
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(held(&world, model), 1 + usize::from(fits));
            assert_eq!(Reserved::on(&world, GPU), if fits { two } else { one });
            // A layer that leaves gives its memory back.
            let last = related::<Layers>(&world, model)[2];
            move_layer(&mut world, last, Place::new(0)).unwrap();
            assert!(Reserved::on(&world, GPU) < if fits { two } else { one });
        }
    }

    #[test]
    fn models_share_a_budget() {
        let mut world = empty(Some(bytes(3) + bytes(1)));
        let first = tiny(&mut world, GpuLayers::Auto).unwrap();
        assert_eq!(held(&world, first), 3);
        let second = tiny(&mut world, GpuLayers::Auto).unwrap();
        assert_eq!(held(&world, second), 1);
        world.despawn(first);
        let third = tiny(&mut world, GpuLayers::Auto).unwrap();
        assert_eq!(held(&world, third), 3);
    }

    #[test]
    fn an_end_that_moves_counts_against_the_budget() {
        let ends = |head| Ends { embed: Place::new(0), head };
        let needed = {
            let mut world = empty(Some(1 << 40));
            let model = tiny(&mut world, GpuLayers::Count(0)).unwrap();
            assert_eq!(Reserved::on(&world, GPU), 0);
            move_ends(&mut world, model, ends(GPU)).unwrap();
            Reserved::on(&world, GPU)
        };
        for (budget, fits) in [(needed - 1, false), (needed, true)] {
            let mut world = empty(Some(budget));
            let model = tiny(&mut world, GpuLayers::Count(0)).unwrap();
            assert_eq!(move_ends(&mut world, model, ends(GPU)).is_ok(), fits);
            assert_eq!(*world.get::<Ends>(model).unwrap(), ends(Place::new(u32::from(fits))));
            assert_eq!(Reserved::on(&world, GPU), if fits { needed } else { 0 });
        }
    }
}
