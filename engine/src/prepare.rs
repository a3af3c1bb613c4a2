//! Models on their way into a world: read on any thread, then handed to the thread that ticks.

use crate::error::Error;
use crate::options::{LoadOptions, ModelSource};
use crate::world::ModelId;
use bevy_ecs::prelude::*;
use weft_components::ModelConfig;
use weft_formats::ModelFile;
use weft_systems::load::{self, SpawnOptions};

/// A model that has been read up to its weights: its hyperparameters, its tokenizer and chat template, and where each
/// tensor is.
///
/// Reading takes up to a second, depending on the size of the vocabulary. A program whose engine must go on ticking reads on
/// another thread and hands the result to [`load_prepared`], which reads nothing.
pub struct PreparedModel {
    pub(crate) file: ModelFile,
    pub(crate) options: SpawnOptions,
}

impl PreparedModel {
    /// Reads a model's header and builds its tokenizer and chat template, on the calling thread.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of a kind that the engine does not run.
    pub fn read(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        let mut file = ModelFile::read(source.into().open()?)?;
        file.template = options.template.choose(file.template.take())?;
        let options = SpawnOptions {
            kv_tokens: options.kv_tokens,
            kv_format: options.kv_format,
            gpu_layers: options.gpu_layers,
        };
        Ok(Self { file, options })
    }

    /// Returns the model's hyperparameters, as its file states them.
    pub fn config(&self) -> &ModelConfig {
        &self.file.config
    }
}

/// Starts to load a model: reads its header and vocabulary; the weights arrive tick by tick. Reads on the calling thread
/// before it returns; see [`PreparedModel`] for reading on another thread.
///
/// # Errors
/// As [`PreparedModel::read`] and [`load_prepared`].
pub fn load(
    world: &mut World,
    source: impl Into<ModelSource>,
    options: &LoadOptions,
) -> Result<ModelId, Error> {
    load_prepared(world, PreparedModel::read(source, options)?)
}

/// Starts to load a model that has been read up to its weights. These arrive tick by tick.
///
/// # Errors
/// The model cannot be placed on the world's devices, or there is no memory for its KV cache.
pub fn load_prepared(world: &mut World, model: PreparedModel) -> Result<ModelId, Error> {
    let PreparedModel { file, options } = model;
    Ok(ModelId(load::spawn_model(world, file, options)?))
}
