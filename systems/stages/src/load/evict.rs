//! Eviction: the weights of a layer are dropped, and read again when a wave has reached the layer.

use super::assign::{Request, count_shards, mark_missing, model_and_index, prepare, request_shards};
use super::failure::fail_model;
use super::queue::LoadQueue;
use crate::fail::LoadFailed;
use crate::place::{Backends, EndsWanted, LoadError};
use crate::related;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Evictable, HeldBy, Layers, MissingShards, Resident, Shards, Wave, WaveOf};
use weft_formats::ShardOwner;

/// Drops the weights of a layer. Its KV cache stays. A wave that reaches the layer stops there until [`demand_layers`]
/// has had the weights read again. Returns false if the layer is not resident, or if one of its shards is not
/// [`Evictable`].
pub fn evict_layer(world: &mut World, layer: Entity) -> bool {
    let Some((model, index)) = model_and_index(world, layer) else { return false };
    let shards = related::<Shards>(world, layer);
    let evictable = shards.iter().all(|shard| world.get::<Evictable>(*shard).is_some());
    if !evictable || world.get::<Resident>(layer).is_none() {
        return false;
    }
    let Some(backend) = world.get::<HeldBy>(layer).and_then(|held| Backends::of(world).at(held.0).cloned())
    else {
        return false;
    };
    for shard in shards {
        mark_missing(world, model, shard);
    }
    count_shards(world, model);
    backend.evict(world, model, index);
    true
}

/// Requests the missing shards of a layer. Does nothing if none is missing, or if all missing ones have been requested.
///
/// # Errors
/// The backend has no memory for the layer, or the loader's threads cannot be started.
pub fn request_layer(world: &mut World, layer: Entity) -> Result<(), LoadError> {
    let Some((model, index)) = model_and_index(world, layer) else { return Ok(()) };
    let Some(queue) = world.get::<LoadQueue>(model) else { return Ok(()) };
    let lost = |missing: &MissingShards| missing.0.iter().any(|shard| !queue.awaits(*shard));
    if !world.get::<MissingShards>(layer).is_some_and(lost) {
        return Ok(());
    }
    let (Some(request), Some(HeldBy(place))) = (Request::of(world, model), world.get(layer).copied()) else {
        return Ok(());
    };
    let wanted = request.assignment(model, place, index..index + 1, EndsWanted::Unchanged);
    prepare(world, &Backends::of(world), &request, wanted)?;
    request_shards(world, model, |spec, shard| {
        !shard.contains::<Resident>() && spec.owner == ShardOwner::Layer(index)
    })
}

/// Requests the evicted layers that waves have reached. Runs in the set `Load`. Never waits.
pub fn demand_layers(
    world: &mut World,
    waves: &mut QueryState<(&Wave, &WaveOf)>,
    mut wanted: Local<'_, Vec<(Entity, Entity)>>,
) {
    for (wave, of) in waves.iter(world) {
        let (AtLayer::Layer(index) | AtLayer::Ffn(index)) = wave.at else { continue };
        // A load that failed goes on only when it is asked to.
        if world.get::<LoadFailed>(of.0).is_some() {
            continue;
        }
        let layer = world.get::<Layers>(of.0).and_then(|layers| layers.entities().get(index));
        wanted.extend(
            layer.filter(|layer| world.get::<Resident>(**layer).is_none()).map(|layer| (of.0, *layer)),
        );
    }
    for (model, layer) in wanted.drain(..) {
        if let Err(error) = request_layer(world, layer) {
            fail_model(world, model, error);
        }
    }
}
