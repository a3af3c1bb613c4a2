//! The place of the CPU, and the KV cache that models have there.

use bevy_ecs::prelude::*;
use weft_components::Place;
use weft_platform::KvArena;

/// The place that the CPU computes.
#[derive(Resource, Clone, Copy, Debug)]
pub struct CpuPlace(pub Place);

/// Keys and values of a model's sessions, for the layers placed on the CPU: an arena for each class of layers. A component
/// of the model.
#[derive(Component)]
pub struct CpuKv(pub Vec<KvArena>);
