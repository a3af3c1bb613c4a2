//! The load system: takes arrived shards from the queues, and marks a layer resident when its last shard has arrived.

use super::assign::{place_again, request_shards};
use super::failure::fail_model;
use super::progress::Loading;
use super::queue::{BYTES_A_TICK, Fetched, LoadQueue};
use super::request::Arrival;
use crate::fail::LoadFailed;
use crate::layers::TickBudget;
use crate::place::LoadError;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use web_time::Instant;
use weft_components::{Fetching, MissingShards, Model, Queued, Resident, ShardOf, TickWork};
use weft_formats::ShardSpec;

/// Takes arrived shards into the world: of each queue at most `BYTES_A_TICK`, and none more once the tick's deadline
/// has passed, but at least one. Runs first in the set `Load`. Never waits.
pub fn receive_shards(
    world: &mut World,
    models: &mut QueryState<(Entity, &mut LoadQueue), With<Model>>,
    mut fetched: Local<'_, Vec<(Entity, Result<Fetched, LoadError>)>>,
) {
    let deadline = world.get_resource::<TickBudget>().and_then(|budget| budget.deadline);
    let is_over = || deadline.is_some_and(|at| Instant::now() >= at);
    for (model, mut queue) in models.iter_mut(world) {
        let mut bytes = 0;
        while bytes == 0 || (bytes < BYTES_A_TICK && !is_over()) {
            match queue.poll(BYTES_A_TICK - bytes.min(BYTES_A_TICK)) {
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
            Err(error) => {
                fail_model(world, model, error);
            }
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

/// Continues a load that failed: requests the shards that have not arrived, or places a model that has no place. Does
/// nothing if the model's load has not failed.
///
/// # Errors
/// The model cannot be placed, or the loader's threads cannot be started. Then the load has failed again.
pub fn retry_load(world: &mut World, model: Entity) -> Result<(), Arc<LoadError>> {
    if world.get::<LoadFailed>(model).is_none() {
        return Ok(());
    }
    world.entity_mut(model).remove::<LoadFailed>();
    if world.get::<LoadQueue>(model).is_none() {
        return place_again(world, model, true).map(|_| ());
    }
    // Evicted shards are neither: they are requested when a wave reaches their layer.
    let requested =
        |_: &ShardSpec, shard: EntityRef<'_>| shard.contains::<Queued>() || shard.contains::<Fetching>();
    request_shards(world, model, requested).map_err(|error| fail_model(world, model, error))
}
