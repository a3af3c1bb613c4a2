//! A load that fails.

use super::queue::LoadQueue;
use super::rewind::rewind_sessions;
use crate::fail::LoadFailed;
use crate::place::{Backends, LoadError};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{LoadFailure, Model, TickWork};

/// Ends a model's load, or reports that a backend has lost rows of its waves: the model's sessions finish with
/// `ModelFailed`. The model keeps what has arrived, and [`retry_load`](super::retry_load) requests the rest. Does nothing if
/// the model is gone. Returns the reason: the first one, if the load has failed before.
pub fn fail_model(world: &mut World, model: Entity, error: LoadError) -> Arc<LoadError> {
    if let Some(failed) = world.get::<LoadFailed>(model) {
        return Arc::clone(&failed.0);
    }
    let error = Arc::new(error);
    if world.get::<Model>(model).is_none() {
        return error;
    }
    tracing::error!(%error, "load failed");
    world.write_message(LoadFailure { model });
    world.resource_mut::<TickWork>().0 += 1;
    if let Some(mut queue) = world.get_mut::<LoadQueue>(model) {
        queue.clear();
    }
    // Rows that are under way are scheduled again after a retry; backends let go of the waves that carry them.
    rewind_sessions(world, &Backends::of(world), model, usize::MAX);
    world.entity_mut(model).insert(LoadFailed(Arc::clone(&error)));
    error
}
