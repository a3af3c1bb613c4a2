//! The failure of a model's load.

use crate::place::LoadError;
use bevy_ecs::prelude::*;
use std::sync::Arc;

/// Why a model is incomplete and no more of its weights arrive. Its sessions finish with `ModelFailed`. A component of
/// the model; [`retry_load`](crate::load::retry_load) removes it and continues the load.
#[derive(Component, Clone, Debug)]
pub struct LoadFailed(pub Arc<LoadError>);
