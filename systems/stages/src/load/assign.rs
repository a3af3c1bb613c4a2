//! Assignment: puts the layers and ends of a model on places, and requests their shards.

use super::distribution::{Distribution, memory_of_others};
use super::failure::fail_model;
use super::origin::{ModelOrigin, shard_bytes};
use super::progress::Loading;
use super::queue::LoadQueue;
use super::request::FetchItem;
use super::rewind::{abandon, rewind_sessions};
use crate::admit::AdmitOptions;
use crate::fail::LoadFailed;
use crate::place::{
    Assignment, Backend, Backends, EndsWanted, GpuLayers, LoadError, PlaceError, PlaceLimits, PrepareAll,
};
use crate::related;
use bevy_ecs::prelude::*;
use core::ops::Range;
use std::sync::Arc;
use weft_components::{
    EndsHeldBy, Fetching, HeldBy, LayerIndex, LayerOf, Layers, LoadProgress, MissingShards, ModelConfig,
    Place, PlacedOn, Queued, Resident, ShardOf, StepsAhead, Wave, WaveLimits, WaveOf, Waves, WeightShard,
};
use weft_formats::ShardSpec;

/// What a model's assignments have in common.
pub(super) struct Request {
    pub(super) config: ModelConfig,
    pub(super) specs: Arc<Vec<ShardSpec>>,
    pub(super) slots: Arc<[u32]>,
    pub(super) kv_format: weft_platform::KvFormat,
    pub(super) gpu_layers: GpuLayers,
    pub(super) limits: WaveLimits,
    pub(super) max_rows: usize,
    pub(super) file: String,
}

impl Request {
    /// The request that a model was spawned with. `None` if the model is gone.
    pub(super) fn of(world: &World, model: Entity) -> Option<Self> {
        let origin = world.get::<ModelOrigin>(model)?;
        let max_rows = AdmitOptions::of(world).max_rows;
        Some(Self {
            config: world.get::<ModelConfig>(model)?.clone(),
            specs: Arc::clone(&origin.specs),
            slots: Arc::clone(&origin.slots),
            kv_format: origin.options.kv_format,
            gpu_layers: origin.options.gpu_layers,
            limits: WaveLimits { rows: origin.limits.rows.min(max_rows).max(1), ..origin.limits },
            max_rows,
            file: origin.file(),
        })
    }

    /// An assignment of layers to a place.
    pub(super) fn assignment(
        &self,
        model: Entity,
        place: Place,
        layers: Range<usize>,
        ends: EndsWanted,
    ) -> Assignment<'_> {
        Assignment {
            model,
            place,
            config: &self.config,
            shards: &self.specs,
            slots: &self.slots,
            kv_format: self.kv_format,
            limits: self.limits,
            max_rows: self.max_rows,
            layers,
            ends,
            all: true,
        }
    }

    /// The error of a load that a backend refuses.
    pub(super) fn refused(&self, world: &World, backend: &dyn Backend, error: PlaceError) -> LoadError {
        LoadError::Place { file: self.file.clone(), place: backend.name(world), source: error }
    }
}

/// Places a model and requests its shards. Uses places other than the first if `accelerate` is true. What was loaded
/// before is dropped, and sessions start over from their histories.
///
/// # Errors
/// As [`spawn_model`](super::spawn_model). Then the model's load has failed, as [`LoadFailed`] says.
pub fn place_model(world: &mut World, model: Entity, accelerate: bool) -> Result<(), Arc<LoadError>> {
    try_place(world, model, accelerate).map_err(|error| fail_model(world, model, error))
}

/// Places a model again, on the first place alone if the others refuse it. Returns true if it may use the others.
///
/// # Errors
/// As [`place_model`].
pub fn place_again(world: &mut World, model: Entity, accelerate: bool) -> Result<bool, Arc<LoadError>> {
    if accelerate {
        match try_place(world, model, true) {
            Ok(()) => return Ok(true),
            Err(error) => tracing::warn!(%error, "the model moves to the first place"),
        }
    }
    place_model(world, model, false).map(|()| false)
}

/// As [`place_model`], but only the caller learns of an error. The model then has no place.
pub(super) fn try_place(world: &mut World, model: Entity, accelerate: bool) -> Result<(), LoadError> {
    let Some(request) = Request::of(world, model) else { return Ok(()) };
    let backends = Backends::of(world);
    release(world, &backends, model);
    let placed = assign(world, &backends, model, &request, accelerate).and_then(|(distribution, limits)| {
        let layers = related::<Layers>(world, model);
        for (layer, place) in layers.iter().zip(&distribution.layers) {
            world.entity_mut(*layer).insert((HeldBy(*place), PlacedOn(*place)));
        }
        let ends = distribution.ends;
        world.entity_mut(model).insert((EndsHeldBy(ends), ends, limits));
        settle_waves(world, model);
        let queue = LoadQueue::new(world, model);
        world.entity_mut(model).insert((queue, MissingShards::default()));
        for layer in &layers {
            world.entity_mut(*layer).insert(MissingShards::default());
        }
        request_shards(world, model, |_, _| true)
    });
    placed.inspect_err(|_| release(world, &backends, model))
}

/// Drops everything that backends hold of a model, its waves and its load queue. Its sessions start over.
pub(super) fn release(world: &mut World, backends: &Backends, model: Entity) {
    rewind_sessions(world, backends, model, 0);
    for wave in related::<Waves>(world, model) {
        world.despawn(wave);
    }
    for (_, backend) in backends.places() {
        backend.release(world, model);
    }
    let layers = related::<Layers>(world, model);
    for layer in layers {
        world.entity_mut(layer).remove::<(Resident, HeldBy)>();
    }
    world.entity_mut(model).remove::<(Resident, EndsHeldBy, LoadQueue, Loading, LoadFailed)>();
    let origin = world.get::<ModelOrigin>(model);
    let shards = origin.map_or_else(Default::default, |origin| Arc::clone(&origin.entities));
    for shard in shards.iter() {
        world.entity_mut(*shard).remove::<(Resident, Queued, Fetching)>();
    }
}

fn assign(
    world: &mut World,
    backends: &Backends,
    model: Entity,
    request: &Request,
    accelerate: bool,
) -> Result<(Distribution, PlaceLimits), LoadError> {
    let no_backend = || LoadError::NoBackend { file: request.file.clone() };
    let (first, host) = backends.places().next().ok_or_else(no_backend)?;
    let mut distribution = Distribution::on(first, request.config.layers);
    let mut limits = PlaceLimits::new(request.limits);
    if accelerate {
        let memory = memory_of_others(world, backends);
        let take = |place, backend: &Arc<dyn Backend>, range: Range<usize>| {
            let mut wanted = request.assignment(model, place, range, EndsWanted::with_layers(&**backend));
            wanted.all = request.gpu_layers != GpuLayers::Auto;
            let taken = backend.prepare(world, &wanted).map_err(|error| (backend.name(world), error))?;
            limits.set(place, taken.limits);
            Ok(taken.layers)
        };
        let kind = |(_, error): &(String, PlaceError)| Some(error.kind);
        match distribution.offload(backends, &memory, request.gpu_layers, take, kind) {
            Ok(None) => {}
            Ok(Some((place, error))) => {
                tracing::warn!(model = request.file, place, %error, "stays on the first place");
                for (_, backend) in backends.places() {
                    backend.release(world, model);
                }
                limits = PlaceLimits::new(request.limits);
            }
            Err((place, source)) => {
                return Err(LoadError::Place { file: request.file.clone(), place, source });
            }
        }
    }
    if let Some((layers, ends)) = distribution.kept() {
        let wanted = request.assignment(model, first, layers, ends);
        let taken = host.prepare(world, &wanted).map_err(|error| request.refused(world, &**host, error))?;
        limits.set(first, taken.limits);
    }
    Ok((distribution, limits))
}

/// Gives a model as many waves as places work on it at the same time, with the limits that these have, and lets steps
/// run ahead if one place holds all of it. Existing waves up to that number stay as they are.
pub(super) fn settle_waves(world: &mut World, model: Entity) {
    let backends = Backends::of(world);
    let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
    let mut places: Vec<Place> =
        layers.iter().filter_map(|layer| world.get::<HeldBy>(*layer)).map(|held| held.0).collect();
    places.sort_unstable();
    places.dedup();
    let ends = world.get::<EndsHeldBy>(model).map(|held| held.0);
    let alone = match (&places[..], ends) {
        ([place], Some(ends)) if (ends.embed, ends.head) == (*place, *place) => Some(*place),
        _ => None,
    };
    let held =
        |place| places.contains(&place) || ends.is_some_and(|ends| place == ends.embed || place == ends.head);
    if let Some(mut limits) = world.get_mut::<PlaceLimits>(model) {
        limits.retain(held);
        let narrowest = limits.narrowest();
        world.entity_mut(model).insert(narrowest);
    }
    let ahead = alone.and_then(|place| backends.at(place)).map_or(0, |backend| backend.steps_ahead());
    let asynchronous = |place: &&Place| backends.at(**place).is_some_and(|backend| backend.is_asynchronous());
    let count = places.iter().filter(asynchronous).count().max(1);
    world.entity_mut(model).insert(StepsAhead(ahead));
    let waves = related::<Waves>(world, model);
    for wave in waves.iter().skip(count) {
        abandon(world, &backends, *wave);
        world.despawn(*wave);
    }
    for _ in waves.len()..count {
        world.spawn((Wave::default(), WaveOf(model)));
    }
}

/// Requests the shards of a model for which `wanted` returns true. Shards that no backend reads are left out.
///
/// # Errors
/// The loader's threads cannot be started.
pub(super) fn request_shards(
    world: &mut World,
    model: Entity,
    wanted: impl Fn(&ShardSpec, EntityRef<'_>) -> bool,
) -> Result<(), LoadError> {
    let Some(origin) = world.get::<ModelOrigin>(model) else { return Ok(()) };
    let (specs, entities) = (Arc::clone(&origin.specs), Arc::clone(&origin.entities));
    let backends = Backends::of(world);
    let (mut items, mut unread) = (Vec::new(), Vec::new());
    for (spec, entity) in specs.iter().zip(entities.iter()) {
        if !world.get_entity(*entity).is_ok_and(|shard| wanted(spec, shard)) {
            continue;
        }
        let readers = backends.places().filter_map(|(_, backend)| backend.install(world, model, spec));
        match PrepareAll::of(readers.collect()) {
            Some(backend) => items.push(FetchItem::new(*entity, spec.shard.clone(), backend)),
            None => unread.push(*entity),
        }
    }
    for item in &items {
        mark_missing(world, model, item.entity());
        world.entity_mut(item.entity()).insert(Queued);
    }
    for shard in unread {
        mark_unread(world, shard);
    }
    count_shards(world, model);
    match world.get_mut::<LoadQueue>(model) {
        Some(mut queue) => queue.push(items),
        None => Ok(()),
    }
}

/// Counts the shards of a model that are resident, and those that somebody reads.
pub(super) fn count_shards(world: &mut World, model: Entity) {
    let Some(origin) = world.get::<ModelOrigin>(model) else { return };
    let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
    let resident = |entity: &&Entity| world.get::<Resident>(**entity).is_some();
    let mut progress = LoadProgress {
        model,
        bytes: 0,
        total_bytes: 0,
        shards: 0,
        total_shards: 0,
        layers: layers.iter().filter(resident).count(),
        total_layers: layers.len(),
    };
    for shard in origin.entities.iter() {
        let (Some(weights), Some(of)) = (world.get::<WeightShard>(*shard), world.get::<ShardOf>(*shard))
        else {
            continue;
        };
        let (bytes, resident) = (shard_bytes(weights), resident(&shard));
        if resident {
            progress.shards += 1;
            progress.bytes += bytes;
        }
        let missing = world.get::<MissingShards>(of.0).is_some_and(|missing| missing.0.contains(shard));
        if resident || missing {
            progress.total_shards += 1;
            progress.total_bytes += bytes;
        }
    }
    world.entity_mut(model).insert(Loading(progress));
}

/// Notes that nothing reads a shard where its owner is now, so that the owner does not wait for it.
fn mark_unread(world: &mut World, shard: Entity) {
    let Some(owner) = world.get::<ShardOf>(shard).map(|of| of.0) else { return };
    let whole = world.get_mut::<MissingShards>(owner).is_some_and(|mut missing| {
        missing.0.remove(&shard);
        missing.0.is_empty()
    });
    if whole {
        world.entity_mut(owner).insert(Resident);
    }
}

/// Notes that a shard is missing: the shard, and its layer or model, are no longer resident.
pub(super) fn mark_missing(world: &mut World, model: Entity, shard: Entity) {
    let Ok(mut entity) = world.get_entity_mut(shard) else { return };
    entity.remove::<(Resident, Queued, Fetching)>();
    let owner = entity.get::<ShardOf>().map_or(model, |of| of.0);
    if let Some(mut missing) = world.get_mut::<MissingShards>(owner) {
        missing.0.insert(shard);
    }
    if let Ok(mut owner) = world.get_entity_mut(owner) {
        owner.remove::<Resident>();
    }
    if let Some(mut queue) = world.get_mut::<LoadQueue>(model) {
        queue.forget(shard);
    }
}

/// A layer's model, and the layer's index in it.
pub(super) fn model_and_index(world: &World, layer: Entity) -> Option<(Entity, usize)> {
    Some((world.get::<LayerOf>(layer)?.0, world.get::<LayerIndex>(layer)?.0))
}

/// Lets a backend prepare an assignment, and notes the limits that waves have there.
pub(super) fn prepare(
    world: &mut World,
    backends: &Backends,
    request: &Request,
    wanted: Assignment<'_>,
) -> Result<(), LoadError> {
    let no_backend = || LoadError::NoBackend { file: request.file.clone() };
    let backend: Arc<dyn Backend> = backends.at(wanted.place).cloned().ok_or_else(no_backend)?;
    match backend.prepare(world, &wanted) {
        Ok(taken) => {
            if let Some(mut limits) = world.get_mut::<PlaceLimits>(wanted.model) {
                limits.set(wanted.place, taken.limits);
            }
            Ok(())
        }
        Err(error) => Err(request.refused(world, &*backend, error)),
    }
}
