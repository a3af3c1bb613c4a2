//! The backends of a world.

use super::backend::Backend;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{Place, Wave};

/// The backends of a world, in the order in which they were registered. Layers that no other place takes go to the
/// first.
#[derive(Resource, Clone, Default)]
pub struct Backends(Vec<Arc<dyn Backend>>);

impl Backends {
    /// Registers the backend that `make` returns for its new place.
    pub fn register<B: Backend>(world: &mut World, make: impl FnOnce(Place) -> B) -> Place {
        let mut backends = world.get_resource_or_init::<Self>();
        let place = Place::new(u32::try_from(backends.0.len()).unwrap_or(u32::MAX));
        backends.0.push(Arc::new(make(place)));
        place
    }

    /// The places, in the order in which their backends were registered.
    pub fn places(&self) -> impl Iterator<Item = (Place, &Arc<dyn Backend>)> {
        (0..).map(Place::new).zip(&self.0)
    }

    /// The backend of a place. `None` if no backend has it.
    pub fn at(&self, place: Place) -> Option<&Arc<dyn Backend>> {
        self.0.get(place.id() as usize)
    }

    /// The backends of a world.
    pub fn of(world: &World) -> Self {
        world.get_resource::<Self>().cloned().unwrap_or_default()
    }

    /// Moves a wave to a place: out of its present place, into this one. Returns false while the move is in progress.
    pub fn bring(world: &mut World, wave: Entity, to: Place) -> bool {
        let at = world.get::<Wave>(wave).and_then(|wave| wave.place);
        if at == Some(to) {
            return true;
        }
        let backend = |world: &World, place| world.get_resource::<Self>()?.at(place).cloned();
        if let Some(from) = at {
            let left = backend(world, from).is_some_and(|backend| backend.leave(world, wave));
            if !left {
                return false;
            }
        }
        backend(world, to).is_some_and(|backend| backend.enter(world, wave))
    }
}
