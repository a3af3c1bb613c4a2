//! Planning a model into the memory of a world's places before it is loaded.

use crate::error::Error;
use crate::prepare::PreparedModel;
use bevy_ecs::prelude::*;
use weft_systems::load::{Fit, FitOptions};
use weft_systems::place::GpuLayers;

/// Plans a model: how many layers go to GPUs and other places, how many tokens the KV cache holds, and in which format, by the
/// memory that the places have. Loads nothing. [`PreparedModel::with_fit`] applies the plan.
///
/// # Errors
/// [`LoadError::DoesNotFit`](weft_systems::place::LoadError::DoesNotFit), with the need and the limit in bytes, if even the
/// shortest context that `options` allow does not fit; or no place can compute the model.
pub fn fit(world: &World, model: &PreparedModel, options: &FitOptions) -> Result<Fit, Error> {
    Ok(weft_systems::load::fit(world, &model.file, options)?)
}

impl PreparedModel {
    /// Takes layers, context and KV format from a plan, in place of those of its load options.
    #[must_use]
    pub fn with_fit(mut self, fit: &Fit) -> Self {
        self.options.kv_tokens = Some(fit.kv_tokens);
        self.options.kv_format = fit.kv_format;
        self.options.gpu_layers = GpuLayers::Count(fit.offloaded);
        self
    }
}
