//! Models on their way into a world: read on any thread, or polled, then handed to the thread that ticks.

use crate::error::Error;
use crate::options::{LoadOptions, ModelSource};
use crate::world::ModelId;
use bevy_ecs::prelude::*;
use core::task::{Context, Poll, ready};
use weft_components::ModelConfig;
use weft_formats::{ModelFile, ModelReader};
use weft_systems::load::{self, SpawnOptions};

/// A model that has been read up to its weights: its hyperparameters, its tokenizer and chat template, and where each
/// tensor is.
///
/// Reading takes up to a second, depending on the size of the vocabulary. A program whose engine must go on ticking reads on
/// another thread and hands the result to [`load_prepared`], which reads nothing. Where no thread may wait for bytes, as in a
/// browser, [`PreparedModelReader`] reads without waiting.
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
        Self::of_file(ModelFile::read(source.into().open()?)?, options)
    }

    /// Applies the options to a file that has been read.
    fn of_file(mut file: ModelFile, options: &LoadOptions) -> Result<Self, Error> {
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

/// Reads what [`PreparedModel::read`] reads, without waiting for bytes that have not arrived. For sources that are polled
/// ([`Source::is_polled`](weft_platform::storage::Source::is_polled)), such as what a web page fetches; other sources are read
/// at once.
///
/// Memory: the front of each file until its header has been parsed, at most twice the header's length.
pub struct PreparedModelReader {
    reader: ModelReader,
    options: LoadOptions,
}

impl PreparedModelReader {
    /// A reader of a model. Polls nothing yet. A path is opened here, on the calling thread.
    ///
    /// # Errors
    /// The files of a path are missing or cannot be opened. Other sources cannot fail here.
    pub fn new(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        Ok(Self { reader: ModelReader::new(source.into().open()?), options: options.clone() })
    }

    /// Goes on reading. Pending: bytes have not arrived; the waker of `cx` is woken when it is worth polling again. The last
    /// poll builds the tokenizer on the calling thread.
    ///
    /// In async code: `std::future::poll_fn(|cx| reader.poll(cx)).await`.
    ///
    /// # Errors
    /// As [`PreparedModel::read`]. A read that fails for a reason that may pass is repeated, three times in a row. A reader that
    /// has returned its result has no file left, which is an error.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<PreparedModel, Error>> {
        let file = ready!(self.reader.poll(cx));
        Poll::Ready(file.map_err(Error::from).and_then(|file| PreparedModel::of_file(file, &self.options)))
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
