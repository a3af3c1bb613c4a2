//! Loading models: the header is read on any thread, or polled; the model is then added to the world by the thread that
//! ticks.

use crate::error::Error;
use crate::options::{LoadOptions, ModelSource};
use crate::world::ModelId;
use bevy_ecs::prelude::*;
use core::task::{Context, Poll, ready};
use weft_components::ModelConfig;
use weft_formats::{ModelFile, ModelReader};
use weft_systems::load::{self, SpawnOptions};

/// A model whose header has been read: its hyperparameters, tokenizer, chat template, and the place of each tensor in
/// its file. No weight has been read.
///
/// Reading takes up to a second, depending on the size of the vocabulary. A program that must keep ticking reads on
/// another thread and passes the result to [`load_prepared`], which reads nothing. Where no thread may wait for bytes,
/// as in a browser, use [`PreparedModelReader`].
pub struct PreparedModel {
    pub(crate) file: ModelFile,
    pub(crate) options: SpawnOptions,
}

impl PreparedModel {
    /// Reads a model's header and builds its tokenizer and chat template, on the calling thread.
    ///
    /// # Errors
    /// A file is missing, damaged, or of a kind that the engine does not support.
    pub fn read(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        Self::of_file(ModelFile::read(source.into().open()?)?, options)
    }

    /// Applies the load options to a file that has been read.
    fn of_file(mut file: ModelFile, options: &LoadOptions) -> Result<Self, Error> {
        file.template = options.template.choose(file.template.take())?;
        let options = SpawnOptions {
            kv_tokens: options.kv_tokens,
            kv_format: options.kv_format,
            prefix_cache: options.prefix_cache,
            gpu_layers: options.gpu_layers,
        };
        Ok(Self { file, options })
    }

    /// Returns the model's hyperparameters, as its file states them.
    pub fn config(&self) -> &ModelConfig {
        &self.file.config
    }
}

/// As [`PreparedModel::read`], without waiting for bytes that have not arrived. For sources that are polled
/// ([`Source::is_polled`](weft_platform::storage::Source::is_polled)), such as the bytes that a web page fetches. Other
/// sources are read at once.
///
/// Memory: the beginning of each file until its header has been parsed, at most twice the header's length.
pub struct PreparedModelReader {
    reader: ModelReader,
    options: LoadOptions,
}

impl PreparedModelReader {
    /// Creates a reader of a model. Opens a path on the calling thread, and reads nothing else yet.
    ///
    /// # Errors
    /// A file of a path is missing or cannot be opened. Other sources do not fail here.
    pub fn new(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        Ok(Self { reader: ModelReader::new(source.into().open()?), options: options.clone() })
    }

    /// Continues reading. Pending while bytes are missing: the waker of `cx` is called when polling again may make
    /// progress. The last poll builds the tokenizer on the calling thread.
    ///
    /// In async code: `std::future::poll_fn(|cx| reader.poll(cx)).await`.
    ///
    /// # Errors
    /// As [`PreparedModel::read`]. A read that fails for a transient reason is retried, up to three times in a row.
    /// Polling again after the result has been returned is an error.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<PreparedModel, Error>> {
        let file = ready!(self.reader.poll(cx));
        Poll::Ready(file.map_err(Error::from).and_then(|file| PreparedModel::of_file(file, &self.options)))
    }
}

/// Starts to load a model. Reads its header and vocabulary on the calling thread before it returns; the weights arrive
/// over the following ticks. See [`PreparedModel`] for reading on another thread.
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

/// Starts to load a model whose header has been read. The weights arrive over the following ticks.
///
/// # Errors
/// The model cannot be placed on the world's devices, or its KV cache does not fit into memory.
pub fn load_prepared(world: &mut World, model: PreparedModel) -> Result<ModelId, Error> {
    let PreparedModel { file, options } = model;
    Ok(ModelId(load::spawn_model(world, file, options)?))
}
