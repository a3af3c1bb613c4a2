//! Starting over: the contexts of a model's sessions are cut, and waves in flight are cleared.

use crate::admit::SessionQueue;
use crate::kv::{abandon_rows, forget_contexts, truncate_session};
use crate::place::Backends;
use crate::related;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Sessions, TickWork, Wave, WaveOf, Waves};

/// Takes a wave out of its place and clears it.
pub fn abandon(world: &mut World, backends: &Backends, wave: Entity) {
    let at = world.get::<Wave>(wave).and_then(|wave| wave.place);
    if let Some(backend) = at.and_then(|place| backends.at(place)) {
        backend.abandon(world, wave);
    }
    let Some(mut rows) = world.get_mut::<Wave>(wave) else { return };
    let turn = (rows.at != AtLayer::Idle).then_some(rows.turn);
    rows.clear();
    let model = world.get::<WaveOf>(wave).map(|of| of.0);
    if let (Some(turn), Some(mut queue)) =
        (turn, model.and_then(|model| world.get_mut::<SessionQueue>(model)))
    {
        queue.times.forget(turn);
    }
}

/// Takes waves of a model out of their places and clears them. Contexts lose the rows that had not passed all layers.
pub(crate) fn abandon_waves(world: &mut World, backends: &Backends, model: Entity, waves: &[Entity]) {
    let travelling =
        waves.iter().filter_map(|wave| world.get::<Wave>(*wave)).filter(|wave| wave.at.travels());
    let first = travelling.map(|wave| wave.turn).min();
    for wave in waves {
        abandon(world, backends, *wave);
    }
    if let Some(first) = first {
        abandon_rows(world, model, first);
    }
}

/// Keeps the first `keep` tokens of the cached context of each of a model's sessions, and clears the model's waves.
pub fn rewind_sessions(world: &mut World, backends: &Backends, model: Entity, keep: usize) {
    let waves = related::<Waves>(world, model);
    abandon_waves(world, backends, model, &waves);
    if keep == 0 {
        forget_contexts(world, model);
    }
    for session in related::<Sessions>(world, model) {
        truncate_session(world, session, keep);
    }
    // Steps that a device has begun may be lost with it. Those whose results come all the same are ignored.
    if let Some(mut queue) = world.get_mut::<SessionQueue>(model) {
        queue.times.forget_all();
    }
    world.resource_mut::<TickWork>().0 += 1;
}
