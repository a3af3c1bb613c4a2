//! The load system: takes arrived shards from the queues, and marks a layer resident when its last shard has arrived.

use super::assign::{place_model, request_shards};
use super::failure::fail;
use super::progress::Loading;
use super::queue::{Fetched, LoadQueue};
use super::request::Arrival;
use crate::fail::LoadFailed;
use crate::place::LoadError;
use bevy_ecs::prelude::*;
use weft_components::{Fetching, MissingShards, Model, Queued, Resident, ShardOf, TickWork};

/// Bytes that one tick takes from a queue, so that waves advance while a fast disk delivers. At least one shard is
/// taken.
const BYTES_A_TICK: u64 = 8 << 20;

/// Takes arrived shards into the world. Runs first in the set `Load`. Never waits.
pub fn receive_shards(
    world: &mut World,
    models: &mut QueryState<(Entity, &mut LoadQueue), With<Model>>,
    mut fetched: Local<'_, Vec<(Entity, Result<Fetched, LoadError>)>>,
) {
    for (model, mut queue) in models.iter_mut(world) {
        let mut bytes = 0;
        while bytes < BYTES_A_TICK {
            match queue.poll() {
                Ok(Fetched::Nothing) => break,
                Ok(Fetched::Arrival(arrival)) => {
                    bytes += arrival.bytes;
                    fetched.push((model, Ok(Fetched::Arrival(arrival))));
                }
                Ok(started) => fetched.push((model, Ok(started))),
                Err(error) => {
                    fetched.push((model, Err(error)));
                    break;
                }
            }
        }
    }
    for (model, fetched) in fetched.drain(..) {
        match fetched {
            Ok(Fetched::Arrival(arrival)) => take(world, model, arrival),
            Ok(Fetched::Started(shard)) => {
                if let Ok(mut shard) = world.get_entity_mut(shard) {
                    shard.remove::<Queued>().insert(Fetching);
                }
            }
            Ok(Fetched::Nothing) => {}
            Err(error) => fail(world, model, error),
        }
    }
}

/// Puts one shard into the world, counts it, and marks its owner resident if it was the last one missing.
fn take(world: &mut World, model: Entity, arrival: Arrival) {
    let Ok(mut shard) = world.get_entity_mut(arrival.entity) else {
        return;
    };
    (arrival.install)(&mut shard);
    shard.remove::<(Queued, Fetching)>().insert(Resident);
    let Some(owner) = shard.get::<ShardOf>().map(|of| of.0) else {
        return;
    };
    let whole = world
        .get_mut::<MissingShards>(owner)
        .is_some_and(|mut missing| missing.0.remove(&arrival.entity) && missing.0.is_empty());
    if whole {
        world.entity_mut(owner).insert(Resident);
    }
    world.resource_mut::<TickWork>().0 += 1;
    let Some(mut loading) = world.get_mut::<Loading>(model) else {
        return;
    };
    loading.0.bytes += arrival.bytes;
    loading.0.shards += 1;
    loading.0.layers += usize::from(whole && owner != model);
    let progress = loading.0;
    world.write_message(progress);
}

/// Continues a load that failed: requests the shards that have not arrived. Does nothing if the model's load has not
/// failed.
///
/// # Errors
/// The loader's threads cannot be started.
pub fn retry_load(world: &mut World, model: Entity) -> Result<(), LoadError> {
    if world.get::<LoadFailed>(model).is_none() {
        return Ok(());
    }
    world.entity_mut(model).remove::<LoadFailed>();
    // A model that could not be placed has no queue either.
    if world.get::<LoadQueue>(model).is_none() {
        return place_model(world, model, true).inspect_err(|_| {
            tracing::warn!("the model still has no place");
        });
    }
    request_shards(world, model, |_, missing| missing)
}
