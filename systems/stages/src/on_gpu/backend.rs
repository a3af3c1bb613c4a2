//! A GPU as a place that models' layers can be assigned to.

use super::capacity::Capacity;
use super::gpu_shard::{GpuShard, GpuShards};
use super::in_flight::AHEAD;
use super::transfer::GpuFailed;
use super::weight_upload::GpuPrepare;
use crate::host::{HostCpu, Wake};
use crate::load::rewind_sessions;
use crate::on_cpu::{CpuPrepare, is_read_by_host};
use crate::place::{
    Assignment, Backend, Backends, Need, PlaceError, PlaceErrorKind, Prepare, PrepareAll, Taken,
};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{ModelConfig, Place, Wave, WaveOf};
use weft_formats::{ShardOwner, ShardSpec};
use weft_gpu::{Gpu, GpuError};

/// An opened GPU and its place.
#[derive(Clone)]
pub struct GpuAt {
    /// The place.
    pub place: Place,
    /// The GPU. It is replaced when the device was lost and opened again.
    pub gpu: Arc<Gpu>,
}

/// The GPUs of an engine, in the order in which they were registered.
#[derive(Resource, Clone, Default)]
pub struct GpuBackend(pub Vec<GpuAt>);

impl GpuBackend {
    /// Registers a GPU.
    pub fn register(world: &mut World, gpu: Arc<Gpu>) -> Place {
        let place = Backends::register(world, GpuPlace);
        world.get_resource_or_init::<Self>().0.push(GpuAt { place, gpu });
        place
    }
}

/// The backend of one GPU.
struct GpuPlace(Place);

impl GpuPlace {
    /// The GPU, and its index among the engine's GPUs.
    fn gpu(&self, world: &World) -> Option<(Arc<Gpu>, usize)> {
        let gpus = &world.get_resource::<GpuBackend>()?.0;
        let number = gpus.iter().position(|at| at.place == self.0)?;
        Some((Arc::clone(&gpus[number].gpu), number))
    }

    fn shard<'w>(&self, world: &'w World, model: Entity) -> Option<&'w GpuShard> {
        world.get::<GpuShards>(model)?.0.iter().find(|gpu_shard| gpu_shard.place == self.0)
    }

    /// Calls `f` with the model's shard on this GPU. `None` if there is none.
    fn with<T>(&self, world: &mut World, model: Entity, f: impl FnOnce(&mut GpuShard) -> T) -> Option<T> {
        let mut held = world.get_mut::<GpuShards>(model)?;
        held.on(self.0).map(f)
    }

    /// Calls `f` with a wave, its model's shard on this GPU and the model's configuration.
    fn with_wave<T>(
        &self,
        world: &mut World,
        wave: Entity,
        f: impl FnOnce(&mut GpuShard, &mut Wave, &ModelConfig) -> T,
    ) -> Option<T> {
        let model = world.get::<WaveOf>(wave)?.0;
        let [mut model, mut wave] = world.get_entity_mut([model, wave]).ok()?;
        let (mut held, config) = model.get_components_mut::<(&mut GpuShards, &ModelConfig)>().ok()?;
        let mut wave = wave.get_mut::<Wave>()?;
        held.on(self.0).map(|gpu_shard| f(gpu_shard, &mut wave, config))
    }
}

fn refused(error: GpuError) -> PlaceError {
    let kind = match &error {
        GpuError::OutOfMemory { .. } | GpuError::DoesNotFit { .. } => PlaceErrorKind::Memory,
        error if error.is_of_model() => PlaceErrorKind::Model,
        _ => PlaceErrorKind::Other,
    };
    PlaceError::new(kind, error)
}

impl Backend for GpuPlace {
    fn name(&self, world: &World) -> String {
        self.gpu(world).map_or_else(|| "GPU".to_owned(), |(gpu, _)| gpu.info.name.clone())
    }

    fn memory(&self, world: &World) -> Option<u64> {
        let (gpu, _) = self.gpu(world)?;
        let all = gpu.options.memory.or(gpu.memory)?;
        Some(all.saturating_sub(reserved_on(world, self.0)))
    }

    fn steps_ahead(&self) -> usize {
        AHEAD
    }

    fn is_asynchronous(&self) -> bool {
        true
    }

    fn fits(&self, world: &World, wanted: &Assignment<'_>) -> Result<Need, PlaceError> {
        let Some((gpu, number)) = self.gpu(world) else { return Ok(Need::default()) };
        let held = self.shard(world, wanted.model).map_or((false, false), |gpu_shard| gpu_shard.ends.held());
        Capacity::new(wanted, (&gpu, number), held, reserved_on(world, self.0))
            .and_then(|room| room.need())
            .map_err(refused)
    }

    fn prepare(&self, world: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError> {
        let none = Taken { layers: wanted.layers.end..wanted.layers.end, limits: wanted.limits };
        let Some((gpu, number)) = self.gpu(world) else { return Ok(none) };
        let wake = Wake::of(world);
        let held = self.shard(world, wanted.model).map(|gpu_shard| gpu_shard.ends.held());
        let room =
            Capacity::new(wanted, (&gpu, number), held.unwrap_or_default(), reserved_on(world, self.0))
                .map_err(refused)?;
        let mut limits = room.limits;
        let layers = if held.is_some() {
            // The plan is made anew: waves that are on the device start over, what has been computed stays cached.
            rewind_sessions(world, &Backends::of(world), wanted.model, usize::MAX);
            let extended = self.with(world, wanted.model, |gpu_shard| gpu_shard.extend(&room));
            extended.unwrap_or(Ok(())).map_err(refused)?;
            wanted.layers.clone()
        } else {
            let ends = wanted.ends_with(&wanted.layers, (false, false));
            if wanted.layers.is_empty() && ends == (false, false) {
                return Ok(none);
            }
            let Some((gpu_shard, layers)) = room.take(wake).map_err(refused)? else { return Ok(none) };
            let mut model = world.entity_mut(wanted.model);
            let mut gpu_shards = model.take::<GpuShards>().unwrap_or_default();
            gpu_shards.0.push(gpu_shard);
            gpu_shards.0.sort_by_key(|gpu_shard| gpu_shard.place);
            model.insert(gpu_shards);
            layers
        };
        if let Some(gpu_shard) = self.shard(world, wanted.model) {
            limits.pages = limits.pages.min(gpu_shard.scratch.table_words);
            // Fewer than the assignment's where the device had no memory for larger waves.
            limits.rows = limits.rows.min(gpu_shard.most.rows);
        }
        self.forget_if_empty(world, wanted.model);
        Ok(Taken { layers, limits })
    }

    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>> {
        let gpu_shard = self.shard(world, model)?;
        let target = match shard.owner {
            ShardOwner::Model => gpu_shard.ends.target(shard.shard.role),
            ShardOwner::Layer(index) => {
                gpu_shard.layers.get(&index).and_then(|weights| weights.target(&shard.shard))
            }
        };
        let mut readers: Vec<Arc<dyn Prepare>> = Vec::new();
        if let Some(target) = target {
            readers.push(Arc::new(GpuPrepare { gpu: Arc::clone(&gpu_shard.gpu), target }));
        }
        if shard.owner == ShardOwner::Model && is_read_by_host(shard.shard.role) {
            readers.push(Arc::new(CpuPrepare { kernels: HostCpu::of(world).kernels }));
        }
        PrepareAll::of(readers)
    }

    fn evict(&self, world: &mut World, model: Entity, layer: usize) {
        rewind_sessions(world, &Backends::of(world), model, usize::MAX);
        self.with(world, model, |gpu_shard| gpu_shard.drop_layer(layer, false));
    }

    fn release_layer(&self, world: &mut World, model: Entity, layer: usize) {
        self.with(world, model, |gpu_shard| gpu_shard.drop_layer(layer, true));
        self.forget_if_empty(world, model);
    }

    fn release(&self, world: &mut World, model: Entity) {
        let Some(mut held) = world.get_mut::<GpuShards>(model) else { return };
        held.0.retain(|gpu_shard| gpu_shard.place != self.0);
        if held.0.is_empty() {
            // A failure of a GPU that holds nothing of the model is none of the model.
            world.entity_mut(model).remove::<(GpuShards, GpuFailed)>();
        }
    }

    fn enter(&self, world: &mut World, wave: Entity) -> bool {
        self.with_wave(world, wave, |gpu_shard, rows, config| gpu_shard.enter(wave, rows, config))
            .unwrap_or(false)
    }

    fn leave(&self, world: &mut World, wave: Entity) -> bool {
        self.with_wave(world, wave, |gpu_shard, rows, config| gpu_shard.send_hidden(wave, rows, config));
        world.get::<Wave>(wave).is_some_and(|wave| wave.place.is_none())
    }

    fn abandon(&self, world: &mut World, wave: Entity) {
        self.with_wave(world, wave, |gpu_shard, _, _| gpu_shard.abandon(wave));
    }
}

impl GpuPlace {
    /// Drops the model's shard on this GPU if it holds neither a layer nor an end.
    fn forget_if_empty(&self, world: &mut World, model: Entity) {
        let empty = |gpu_shard: &GpuShard| gpu_shard.kv.is_empty() && gpu_shard.ends.held() == (false, false);
        if self.shard(world, model).is_some_and(empty) {
            self.release(world, model);
        }
    }
}

/// Bytes reserved on a GPU for all models of a world.
fn reserved_on(world: &World, place: Place) -> u64 {
    let Some(mut models) = world.try_query::<&GpuShards>() else { return 0 };
    let shards = models.iter(world).flat_map(|model| &model.0).filter(|gpu_shard| gpu_shard.place == place);
    shards.map(|gpu_shard| gpu_shard.reserved.bytes()).fold(0, u64::saturating_add)
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
        reserved_on(&world, GPU)
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
            assert_eq!(reserved_on(&world, GPU), if fits { two } else { one });
            // A layer that leaves gives its memory back.
            let last = related::<Layers>(&world, model)[2];
            move_layer(&mut world, last, Place::new(0)).unwrap();
            assert!(reserved_on(&world, GPU) < if fits { two } else { one });
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
            assert_eq!(reserved_on(&world, GPU), 0);
            move_ends(&mut world, model, ends(GPU)).unwrap();
            reserved_on(&world, GPU)
        };
        for (budget, fits) in [(needed - 1, false), (needed, true)] {
            let mut world = empty(Some(budget));
            let model = tiny(&mut world, GpuLayers::Count(0)).unwrap();
            assert_eq!(move_ends(&mut world, model, ends(GPU)).is_ok(), fits);
            assert_eq!(*world.get::<Ends>(model).unwrap(), ends(Place::new(u32::from(fits))));
            assert_eq!(reserved_on(&world, GPU), if fits { needed } else { 0 });
        }
    }
}
