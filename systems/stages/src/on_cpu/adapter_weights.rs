//! The matrices of adapters on the host, and their place in a model's plan.

use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_formats::adapter::AdapterMatrices;

/// The matrices of an adapter, on the host. A component of the adapter.
#[derive(Component, Clone)]
pub struct AdapterWeights(pub Arc<AdapterMatrices>);

/// An adapter in a model's plan.
#[derive(Clone)]
pub struct PlannedAdapter {
    /// The adapter.
    pub adapter: Entity,
    /// Its matrices.
    pub matrices: Arc<AdapterMatrices>,
}
