//! The load system: takes what the loader has, and marks layers resident when their last shard is there.

use super::error::LoadError;
use super::feed::{Fetched, LoadFeed};
use bevy_ecs::prelude::*;
use bevy_ecs::world::CommandQueue;
use std::sync::Arc;
use weft_components::{LoadFailure, LoadProgress, MissingShards, Model, Queued, Resident, ShardOf, TickWork};

/// Bytes that one tick takes from a feed, so that waves move while a fast disk delivers; at least one shard is taken.
const BYTES_A_TICK: u64 = 8 << 20;

/// How far a model has come: the latest [`LoadProgress`], kept for those who did not read the message.
#[derive(Component, Clone, Copy, Debug)]
pub struct Loading(pub LoadProgress);

/// Why a model will never be whole. Its sessions finish with `ModelFailed`.
#[derive(Component, Clone, Debug)]
pub struct LoadFailed(pub Arc<LoadError>);

/// Takes arrived shards into the world. Runs first in the set `Load`; never waits.
pub fn receive_shards(
    world: &mut World,
    models: &mut QueryState<(Entity, &mut LoadFeed), With<Model>>,
    mut arrived: Local<'_, Vec<(Entity, super::feed::Arrival)>>,
) {
    let mut commands = CommandQueue::default();
    for (model, mut feed) in models.iter_mut(world) {
        let mut bytes = 0;
        let outcome = loop {
            if bytes >= BYTES_A_TICK {
                break Ok(());
            }
            match feed.poll() {
                Ok(Fetched::Arrival(arrival)) => {
                    bytes += arrival.bytes;
                    arrived.push((model, arrival));
                }
                Ok(Fetched::Nothing) => break Ok(()),
                Ok(Fetched::End) => {
                    commands.push(move |world: &mut World| end_of_feed(world, model));
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = outcome {
            commands.push(move |world: &mut World| fail(world, model, error));
        }
    }
    for (model, arrival) in arrived.drain(..) {
        take(world, model, arrival);
    }
    commands.apply(world);
}

/// Puts one shard in place, counts it, and marks its owner resident when it was the last.
fn take(world: &mut World, model: Entity, arrival: super::feed::Arrival) {
    let Ok(mut shard) = world.get_entity_mut(arrival.entity) else {
        return;
    };
    (arrival.install)(&mut shard);
    shard.remove::<Queued>().insert(Resident);
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

fn end_of_feed(world: &mut World, model: Entity) {
    let whole = world.get::<Loading>(model).is_some_and(|loading| loading.0.is_complete());
    if whole {
        world.entity_mut(model).remove::<LoadFeed>();
    } else {
        fail(world, model, LoadError::LoaderGone { file: format!("model {model}") });
    }
}

fn fail(world: &mut World, model: Entity, error: LoadError) {
    tracing::error!(%error, "load failed");
    world.write_message(LoadFailure { model });
    world.resource_mut::<TickWork>().0 += 1;
    world.entity_mut(model).remove::<LoadFeed>().insert(LoadFailed(Arc::new(error)));
}
