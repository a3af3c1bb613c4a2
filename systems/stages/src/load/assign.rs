//! Assignment: decides which layers of a model go to which place.
//!
//! The last layers and the head go to places other than the first. If they do not hold the whole model, a wave crosses
//! from the first place to the others once, and its hidden state never comes back. Several places share the layers in
//! order, in proportion to their memory.

use super::origin::{ModelOrigin, shard_bytes};
use super::progress::Loading;
use super::queue::LoadQueue;
use super::request::FetchItem;
use crate::admit::AdmitOptions;
use crate::fail::LoadFailed;
use crate::place::{
    Assignment, Backend, Backends, EndsWanted, GpuLayers, LoadError, PlaceError, PlaceErrorKind, PrepareAll,
};
use crate::related;
use bevy_ecs::prelude::*;
use core::ops::Range;
use std::sync::Arc;
use weft_components::{
    Ends, EndsHeldBy, Fetching, HeldBy, LayerIndex, LayerOf, Layers, LoadProgress, MissingShards,
    ModelConfig, Place, PlacedOn, Queued, Resident, ShardOf, StepsAhead, Wave, WaveLimits, WaveOf, Waves,
    WeightShard,
};
use weft_formats::ShardSpec;

/// The places of a model's layers and ends.
struct Assigned {
    layers: Vec<Place>,
    ends: Ends,
    limits: WaveLimits,
}

/// What a model's assignments have in common.
pub(super) struct Request {
    pub(super) config: ModelConfig,
    pub(super) specs: Arc<Vec<ShardSpec>>,
    pub(super) slots: u32,
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
        Some(Self {
            config: world.get::<ModelConfig>(model)?.clone(),
            specs: Arc::clone(&origin.specs),
            slots: origin.slots,
            kv_format: origin.options.kv_format,
            gpu_layers: origin.options.gpu_layers,
            limits: origin.limits,
            max_rows: world.get_resource::<AdmitOptions>().copied().unwrap_or_default().max_rows,
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
            slots: self.slots,
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
/// before is dropped.
///
/// # Errors
/// As [`spawn_model`](super::spawn_model); the model then has no place.
pub fn place_model(world: &mut World, model: Entity, accelerate: bool) -> Result<(), LoadError> {
    let Some(request) = Request::of(world, model) else { return Ok(()) };
    let backends = Backends::of(world);
    release(world, &backends, model);
    let assigned = match assign(world, &backends, model, &request, accelerate) {
        Ok(assigned) => assigned,
        Err(error) => {
            release(world, &backends, model);
            return Err(error);
        }
    };
    let layers = related::<Layers>(world, model);
    for (layer, place) in layers.iter().zip(&assigned.layers) {
        world.entity_mut(*layer).insert((HeldBy(*place), PlacedOn(*place)));
    }
    let ends = assigned.ends;
    world.entity_mut(model).insert((EndsHeldBy(ends), ends, assigned.limits));
    settle_waves(world, model);
    let loading = LoadProgress {
        model,
        bytes: 0,
        total_bytes: 0,
        shards: 0,
        total_shards: 0,
        layers: 0,
        total_layers: request.config.layers,
    };
    let queue = LoadQueue::new(world, model);
    world.entity_mut(model).insert((Loading(loading), queue, MissingShards::default()));
    for layer in &layers {
        world.entity_mut(*layer).insert(MissingShards::default());
    }
    request_shards(world, model, |_, _| true)?;
    let asked = |world: &World, shard: &Entity| world.get::<Queued>(*shard).is_some();
    let origin = world.get::<ModelOrigin>(model);
    let entities = origin.map_or_else(Default::default, |origin| Arc::clone(&origin.entities));
    let sizes = entities.iter().filter(|shard| asked(world, shard));
    let sizes: Vec<u64> =
        sizes.map(|shard| world.get::<WeightShard>(*shard).map_or(0, shard_bytes)).collect();
    if let Some(mut loading) = world.get_mut::<Loading>(model) {
        loading.0.total_shards = sizes.len();
        loading.0.total_bytes = sizes.iter().sum();
    }
    Ok(())
}

/// Drops everything that backends hold of a model, its waves and its load queue.
fn release(world: &mut World, backends: &Backends, model: Entity) {
    let waves = related::<Waves>(world, model);
    for wave in waves {
        abandon(world, backends, wave);
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

/// Takes a wave out of its place and clears it.
pub fn abandon(world: &mut World, backends: &Backends, wave: Entity) {
    let at = world.get::<Wave>(wave).and_then(|wave| wave.place);
    if let Some(backend) = at.and_then(|place| backends.at(place)) {
        backend.abandon(world, wave);
    }
    if let Some(mut wave) = world.get_mut::<Wave>(wave) {
        wave.clear();
    }
}

fn assign(
    world: &mut World,
    backends: &Backends,
    model: Entity,
    request: &Request,
    accelerate: bool,
) -> Result<Assigned, LoadError> {
    let no_backend = || LoadError::NoBackend { file: request.file.clone() };
    let (first, host) = backends.places().next().ok_or_else(no_backend)?;
    let count = request.config.layers;
    let mut assigned = Assigned {
        layers: vec![first; count],
        ends: Ends { embed: first, head: first },
        limits: request.limits,
    };
    if accelerate {
        let before = assigned.limits;
        match offload(world, backends, model, request, &mut assigned) {
            Err((name, error))
                if request.gpu_layers == GpuLayers::Auto && error.kind == PlaceErrorKind::Model =>
            {
                tracing::warn!(model = request.file, place = name, error = %error.source, "stays on the first place");
                for (_, backend) in backends.places() {
                    backend.release(world, model);
                }
                assigned.layers.fill(first);
                assigned.limits = before;
            }
            Err((place, error)) => {
                return Err(LoadError::Place { file: request.file.clone(), place, source: error });
            }
            Ok(()) => {}
        }
        let takes_ends = |place: &Place| backends.at(*place).is_some_and(|backend| backend.takes_ends());
        let end = |layer: Option<&Place>| layer.copied().filter(takes_ends).unwrap_or(first);
        assigned.ends = Ends { embed: end(assigned.layers.first()), head: end(assigned.layers.last()) };
    }
    let kept = assigned.layers.iter().take_while(|place| **place == first).count();
    let (embed, head) = (assigned.ends.embed == first, assigned.ends.head == first);
    if kept > 0 || count == 0 || embed || head {
        let wanted = EndsWanted::Exactly { embed, head };
        let mut wanted = request.assignment(model, first, 0..kept, wanted);
        wanted.limits = assigned.limits;
        let taken = host.prepare(world, &wanted).map_err(|error| request.refused(world, &**host, error))?;
        assigned.limits = taken.limits;
    }
    Ok(assigned)
}

/// Puts the last layers on the places other than the first. The error names the place.
fn offload(
    world: &mut World,
    backends: &Backends,
    model: Entity,
    request: &Request,
    assigned: &mut Assigned,
) -> Result<(), (String, PlaceError)> {
    let count = match request.gpu_layers {
        GpuLayers::Auto => request.config.layers,
        GpuLayers::Count(count) => count.min(request.config.layers),
    };
    let others: Vec<_> = backends.places().skip(1).collect();
    let memory: Vec<_> = others.iter().map(|(_, backend)| backend.memory(world)).collect();
    let ranges = shares(&memory, request.config.layers - count..request.config.layers);
    assigned.limits.rows = assigned.limits.rows.min(request.max_rows).max(1);
    // From the last layers on. Layers that do not fit are left to the first place.
    for ((place, backend), range) in others.into_iter().zip(ranges).rev() {
        if range.is_empty() {
            continue;
        }
        let mut wanted = request.assignment(model, place, range.clone(), EndsWanted::with_layers(&**backend));
        wanted.limits = assigned.limits;
        wanted.all = request.gpu_layers != GpuLayers::Auto;
        let taken = backend.prepare(world, &wanted).map_err(|error| (backend.name(world), error))?;
        assigned.layers[taken.layers.clone()].fill(place);
        assigned.limits = taken.limits;
        if taken.layers.len() < range.len() {
            break;
        }
    }
    Ok(())
}

/// Splits layers over places in proportion to the memory that each may use, or evenly if the memory of one is unknown.
pub(super) fn shares(memory: &[Option<u64>], layers: Range<usize>) -> Vec<Range<usize>> {
    let known = memory.iter().all(|bytes| bytes.is_some_and(|bytes| bytes > 0));
    let weight = |bytes: &Option<u64>| bytes.filter(|_| known).map_or(1.0, |bytes| bytes as f64);
    let total: f64 = memory.iter().map(weight).sum();
    let (mut first, mut mass) = (layers.start, 0.0);
    memory
        .iter()
        .map(|bytes| {
            mass += weight(bytes);
            let end = layers.start + (layers.len() as f64 * mass / total).round() as usize;
            let range = first..end.clamp(first, layers.end);
            first = range.end;
            range
        })
        .collect()
}

/// Gives a model as many waves as places work on it at the same time, and lets steps run ahead if one place holds all
/// of it. Existing waves up to that number stay as they are.
pub(super) fn settle_waves(world: &mut World, model: Entity) {
    let backends = Backends::of(world);
    let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
    let mut places: Vec<Place> =
        layers.iter().filter_map(|layer| world.get::<HeldBy>(*layer)).map(|held| held.0).collect();
    places.sort_unstable();
    places.dedup();
    let alone = match (&places[..], world.get::<EndsHeldBy>(model)) {
        ([place], Some(EndsHeldBy(ends))) if (ends.embed, ends.head) == (*place, *place) => Some(*place),
        _ => None,
    };
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

/// Requests the shards of a model for which `wanted` returns true, given the shard and whether it is missing. Shards
/// that no backend reads are left out.
///
/// # Errors
/// The loader's threads cannot be started.
pub(super) fn request_shards(
    world: &mut World,
    model: Entity,
    wanted: impl Fn(&ShardSpec, bool) -> bool,
) -> Result<(), LoadError> {
    let Some(origin) = world.get::<ModelOrigin>(model) else { return Ok(()) };
    let (specs, entities) = (Arc::clone(&origin.specs), Arc::clone(&origin.entities));
    let backends = Backends::of(world);
    let mut items = Vec::new();
    for (spec, entity) in specs.iter().zip(entities.iter()) {
        if !wanted(spec, world.get::<Resident>(*entity).is_none()) {
            continue;
        }
        let readers = backends.places().filter_map(|(_, backend)| backend.install(world, model, spec));
        let Some(backend) = PrepareAll::of(readers.collect()) else {
            forget_missing(world, *entity);
            continue;
        };
        items.push(FetchItem::new(*entity, spec.shard.clone(), backend));
    }
    for item in &items {
        drop_shard(world, model, item.entity());
        world.entity_mut(item.entity()).insert(Queued);
    }
    match world.get_mut::<LoadQueue>(model) {
        Some(mut queue) => queue.push(items),
        None => Ok(()),
    }
}

/// Notes that a shard is not read where its layer is now.
fn forget_missing(world: &mut World, shard: Entity) {
    let owner = world.get::<ShardOf>(shard).map(|of| of.0);
    if let Some(mut missing) = owner.and_then(|owner| world.get_mut::<MissingShards>(owner)) {
        missing.0.remove(&shard);
    }
}

/// Notes that a shard is missing: the shard, and its layer or model, are no longer resident.
pub(super) fn drop_shard(world: &mut World, model: Entity, shard: Entity) {
    let Ok(mut entity) = world.get_entity_mut(shard) else { return };
    let was_resident = entity.take::<Resident>().is_some();
    entity.remove::<(Queued, Fetching)>();
    let bytes = entity.get::<WeightShard>().map_or(0, shard_bytes);
    let owner = entity.get::<ShardOf>().map_or(model, |of| of.0);
    if let Some(mut missing) = world.get_mut::<MissingShards>(owner) {
        missing.0.insert(shard);
    }
    let owner_was = world.get_entity_mut(owner).is_ok_and(|mut owner| owner.take::<Resident>().is_some());
    if let Some(mut loading) = world.get_mut::<Loading>(model) {
        let progress = &mut loading.0;
        if was_resident {
            progress.shards = progress.shards.saturating_sub(1);
            progress.bytes = progress.bytes.saturating_sub(bytes);
        }
        if owner_was && owner != model {
            progress.layers = progress.layers.saturating_sub(1);
        }
    }
    if let Some(mut queue) = world.get_mut::<LoadQueue>(model) {
        queue.forget(shard);
    }
}

/// A layer's model, and the layer's index in it.
pub(super) fn place_in_model(world: &World, layer: Entity) -> Option<(Entity, usize)> {
    Some((world.get::<LayerOf>(layer)?.0, world.get::<LayerIndex>(layer)?.0))
}
