//! Starting over: the contexts of a model's sessions are cut, and waves in flight are cleared.

use crate::admit::truncate_session;
use crate::place::Backends;
use crate::related;
use bevy_ecs::prelude::*;
use weft_components::{Sessions, TickWork, Wave, Waves};

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

/// Keeps the first `keep` tokens of the cached context of each of a model's sessions, and clears the model's waves.
pub fn rewind_sessions(world: &mut World, backends: &Backends, model: Entity, keep: usize) {
    let waves = related::<Waves>(world, model);
    for wave in waves {
        abandon(world, backends, wave);
    }
    let sessions = related::<Sessions>(world, model);
    for session in sessions {
        // The system is the engine's own and accepts any entity: it cannot fail.
        let _ = world.run_system_cached_with(truncate_session, (session, keep));
    }
    world.resource_mut::<TickWork>().0 += 1;
}
