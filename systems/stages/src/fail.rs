//! A model whose load has failed.

use crate::place::LoadError;
use bevy_ecs::prelude::*;
use std::sync::Arc;

/// Why a model is incomplete and nothing more arrives. Its sessions finish with `ModelFailed`. A component of the model;
/// [`retry_load`](crate::load::retry_load) removes it and goes on.
#[derive(Component, Clone, Debug)]
pub struct LoadFailed(pub Arc<LoadError>);
