//! Fitting a model into the memory of a world's places before it is loaded.

use crate::error::Error;
use crate::prepare::PreparedModel;
use bevy_ecs::prelude::*;
use weft_systems::load::{Fit, FitOptions};
use weft_systems::place::GpuLayers;

/// Plans a model by the available memory of the places: the number of layers on GPUs and other places, and the capacity
/// and format of the KV cache. Loads nothing. [`PreparedModel::with_fit`] applies the plan.
///
/// # Errors
/// [`LoadError::DoesNotFit`](weft_systems::place::LoadError::DoesNotFit), with the needed and the available bytes, if
/// even the shortest context that `options` allow does not fit. Also if no place can compute the model.
pub fn fit(world: &World, model: &PreparedModel, options: &FitOptions) -> Result<Fit, Error> {
    Ok(weft_systems::load::fit(world, &model.file, options)?)
}

impl PreparedModel {
    /// Replaces the layer placement, KV capacity and KV format of its load options with those of a plan.
    #[must_use]
    pub fn with_fit(mut self, fit: &Fit) -> Self {
        self.options.kv_tokens = Some(fit.kv_tokens);
        self.options.kv_format = fit.kv_format;
        self.options.gpu_layers = GpuLayers::Count(fit.offloaded);
        self
    }
}
