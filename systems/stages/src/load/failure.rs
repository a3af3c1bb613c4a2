//! A load that fails.

use super::queue::LoadQueue;
use super::rewind::rewind_sessions;
use crate::fail::LoadFailed;
use crate::place::{Backends, LoadError};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{LoadFailure, TickWork};

/// Ends a model's load, or reports that a backend has lost its layers: the model's sessions finish with `ModelFailed`. The
/// model keeps what has arrived, and [`retry_load`](super::retry_load) requests the rest.
pub fn fail_model(world: &mut World, model: Entity, error: LoadError) {
    tracing::error!(%error, "load failed");
    world.write_message(LoadFailure { model });
    world.resource_mut::<TickWork>().0 += 1;
    if let Some(mut queue) = world.get_mut::<LoadQueue>(model) {
        queue.clear();
    }
    // Rows that are under way are scheduled again after a retry; backends let go of the waves that carry them.
    rewind_sessions(world, &Backends::of(world), model, usize::MAX);
    world.entity_mut(model).insert(LoadFailed(Arc::new(error)));
}
