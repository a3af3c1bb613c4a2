//! How far a model's load has come.

use bevy_ecs::prelude::*;
use weft_components::LoadProgress;

/// The progress of a model's load: the latest [`LoadProgress`], kept for readers that missed the message. Evicted
/// weights count as missing. A component of the model.
#[derive(Component, Clone, Copy, Debug)]
pub struct Loading(pub LoadProgress);
