//! Models on their way into an engine: read on any thread, handed over to the engine's.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
use crate::options::{LoadOptions, ModelSource};
use weft_components::ModelConfig;
use weft_formats::ModelFile;
use weft_systems::load::{self, SpawnOptions};

/// A model that has been read up to its weights: its numbers, its tokenizer and chat template, and where each tensor is.
///
/// Reading it takes as long as the vocabulary is large, up to a second. A program whose engine must go on ticking reads on another
/// thread and hands the result to [`Engine::load_prepared`], which reads nothing.
pub struct PreparedModel {
    file: ModelFile,
    options: SpawnOptions,
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

    /// The model's numbers, as its file states them.
    pub fn config(&self) -> &ModelConfig {
        &self.file.config
    }
}

impl Engine {
    /// Starts to load a model: reads its header and vocabulary, and leaves the weights to arrive tick by tick. What it reads itself
    /// it reads before it returns; see [`PreparedModel`] for reading on another thread.
    ///
    /// # Errors
    /// As [`PreparedModel::read`] and [`Engine::load_prepared`].
    pub fn load(&mut self, source: impl Into<ModelSource>, options: &LoadOptions) -> Result<ModelId, Error> {
        self.load_prepared(PreparedModel::read(source, options)?)
    }

    /// Starts to load a model that has been read up to its weights. These arrive tick by tick.
    ///
    /// # Errors
    /// The model cannot be placed on the engine's devices, or there is no memory for its KV cache.
    pub fn load_prepared(&mut self, model: PreparedModel) -> Result<ModelId, Error> {
        let PreparedModel { file, options } = model;
        Ok(ModelId(load::spawn_model(&mut self.world, file, options)?))
    }
}
