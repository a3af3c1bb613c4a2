//! Movement of layers and ends: their placement components say where they are wanted, and the weights follow.
//!
//! A layer that moves loses its KV cache: the contexts of the model's sessions are computed again from their token
//! histories, on the new places, so the text stays the same. Waves in flight are cleared and their rows scheduled
//! again.

use super::assign::{Request, mark_missing, model_and_index, prepare, release, request_shards, settle_waves};
use super::failure::fail_model;
use super::rewind::rewind_sessions;
use crate::place::{Backends, EndsWanted, LoadError};
use crate::related;
use bevy_ecs::prelude::*;
use weft_components::{Ends, EndsHeldBy, HeldBy, Model, Place, PlacedOn, Shards, TickWork};
use weft_formats::ShardOwner;

/// Layers and models whose placement component differs from where they are held.
#[derive(Resource, Default)]
pub struct Moves {
    layers: Vec<Entity>,
    models: Vec<Entity>,
}

/// Notes layers that are wanted on another place. An observer.
pub fn note_layer(
    placed: On<'_, '_, Insert<PlacedOn>>,
    layers: Query<'_, '_, (&PlacedOn, &HeldBy)>,
    mut moves: ResMut<'_, Moves>,
    mut work: ResMut<'_, TickWork>,
) {
    if layers.get(placed.entity).is_ok_and(|(placed, held)| placed.0 != held.0) {
        moves.layers.push(placed.entity);
        work.0 += 1;
    }
}

/// Notes models whose ends are wanted on another place. An observer.
pub fn note_ends(
    placed: On<'_, '_, Insert<Ends>>,
    models: Query<'_, '_, (&Ends, &EndsHeldBy), With<Model>>,
    mut moves: ResMut<'_, Moves>,
    mut work: ResMut<'_, TickWork>,
) {
    if models.get(placed.entity).is_ok_and(|(ends, held)| *ends != held.0) {
        moves.models.push(placed.entity);
        work.0 += 1;
    }
}

/// Moves the layers and ends that are wanted elsewhere. If a backend refuses one, it stays where it is and its
/// placement component is set back. Runs in the set `Load`. Never waits.
pub fn move_layers(world: &mut World) {
    let Some(mut moves) = world.get_resource_mut::<Moves>() else { return };
    if moves.layers.is_empty() && moves.models.is_empty() {
        return;
    }
    let Moves { layers, models } = core::mem::take(&mut *moves);
    for layer in layers {
        let Some(PlacedOn(to)) = world.get(layer).copied() else { continue };
        if let Err(error) = move_layer(world, layer, to) {
            tracing::warn!(%error, "a layer stays where it is");
        }
    }
    for model in models {
        let Some(ends) = world.get::<Ends>(model).copied() else { continue };
        if let Err(error) = move_ends(world, model, ends) {
            tracing::warn!(%error, "the ends of a model stay where they are");
        }
    }
}

/// Moves a layer to a place. Inserting [`PlacedOn`] does the same in the next tick.
///
/// # Errors
/// No backend has the place, or it refuses the layer. Then the layer stays where it is.
pub fn move_layer(world: &mut World, layer: Entity, to: Place) -> Result<(), LoadError> {
    let Some((model, index)) = model_and_index(world, layer) else { return Ok(()) };
    let (Some(request), Some(HeldBy(from))) = (Request::of(world, model), world.get(layer).copied()) else {
        return Ok(());
    };
    if from == to {
        return Ok(());
    }
    let backends = Backends::of(world);
    let wanted = request.assignment(model, to, index..index + 1, EndsWanted::Unchanged);
    prepare(world, &backends, &request, wanted).inspect_err(|_| {
        world.entity_mut(layer).insert(PlacedOn(from));
    })?;
    rewind_sessions(world, &backends, model, 0);
    if let Some(backend) = backends.at(from) {
        backend.release_layer(world, model, index);
    }
    let shards = related::<Shards>(world, layer);
    for shard in shards {
        mark_missing(world, model, shard);
    }
    world.entity_mut(layer).insert((HeldBy(to), PlacedOn(to)));
    settle_waves(world, model);
    request_all(world, model, ShardOwner::Layer(index));
    Ok(())
}

/// Requests all shards of an owner. If that fails, the load of the model has failed.
fn request_all(world: &mut World, model: Entity, owner: ShardOwner) {
    if let Err(error) = request_shards(world, model, |spec, _| spec.owner == owner) {
        fail_model(world, model, error);
    }
}

/// Moves the ends of a model. Inserting [`Ends`] does the same in the next tick. Contexts stay cached.
///
/// # Errors
/// No backend has a place, or one refuses an end. Then the ends stay where they are.
pub fn move_ends(world: &mut World, model: Entity, to: Ends) -> Result<(), LoadError> {
    let (Some(request), Some(EndsHeldBy(from))) =
        (Request::of(world, model), world.get::<EndsHeldBy>(model).copied())
    else {
        return Ok(());
    };
    if from == to {
        return Ok(());
    }
    let backends = Backends::of(world);
    let takes = |place: Place| backends.at(place).is_some_and(|backend| backend.takes_ends());
    if !takes(to.embed) || !takes(to.head) {
        world.entity_mut(model).insert(from);
        return Err(LoadError::NoEnds { file: request.file });
    }
    let mut places = vec![to.embed, to.head, from.embed, from.head];
    places.sort_unstable();
    places.dedup();
    // Places that gain an end come first: one that refuses then changes nothing.
    let gains =
        |place: Place| (to.embed == place && from.embed != place) || (to.head == place && from.head != place);
    places.sort_by_key(|place| !gains(*place));
    rewind_sessions(world, &backends, model, usize::MAX);
    let mut prepare_ends = |ends: Ends, place: Place| {
        let exactly = EndsWanted::Exactly { embed: ends.embed == place, head: ends.head == place };
        prepare(world, &backends, &request, request.assignment(model, place, 0..0, exactly))
    };
    let mut prepared = 0;
    let moved = places.iter().try_for_each(|place| {
        prepare_ends(to, *place)?;
        prepared += 1;
        Ok(())
    });
    let back = match &moved {
        Ok(()) => Ok(()),
        Err(_) => places[..prepared].iter().try_for_each(|place| prepare_ends(from, *place)),
    };
    let ends = if moved.is_ok() { to } else { from };
    world.entity_mut(model).insert((EndsHeldBy(ends), ends));
    settle_waves(world, model);
    match back {
        Ok(()) if prepared > 0 => request_all(world, model, ShardOwner::Model),
        Ok(()) => {}
        // A place that held them holds them no longer: a retry places the model anew.
        Err(error) => {
            release(world, &backends, model);
            fail_model(world, model, error);
        }
    }
    moved
}
