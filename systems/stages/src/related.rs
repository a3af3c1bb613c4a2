//! The entities that a relationship names, copied, for code that changes the world as it goes over them.

use bevy_ecs::prelude::*;
use bevy_ecs::relationship::RelationshipTarget;

/// Returns the entities that `T` lists on an entity, in order; none if it has no `T`: `related::<Layers>(world, model)`.
pub fn related<T: RelationshipTarget>(world: &World, entity: Entity) -> Vec<Entity> {
    world.get::<T>(entity).map_or_else(Vec::new, |target| target.iter().collect())
}
