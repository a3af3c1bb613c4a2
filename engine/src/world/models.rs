//! Models of a world: load progress, configuration, tokenizer, and unloading.

use crate::error::Error;
use bevy_ecs::prelude::*;
use weft_components::{LoadProgress, Model, ModelConfig, SamplingDefaults};
use weft_systems::fail::LoadFailed;
use weft_systems::load::{self, Loading};
use weft_systems::text::{ModelTemplate, ModelTokenizer};
use weft_text::Tokenizer;

/// Identifies a model: its entity in the world that it was loaded into. Valid until [`unload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(pub Entity);

/// Drops a model with its weights, KV cache, sessions and adapters. If it is still loading, cancels the load.
pub fn unload(world: &mut World, model: ModelId) {
    if world.get::<Model>(model.0).is_some() {
        world.despawn(model.0);
    }
}

/// Returns how much of a model has been loaded.
///
/// # Errors
/// The model has been unloaded, or its load failed.
pub fn progress(world: &World, model: ModelId) -> Result<LoadProgress, Error> {
    if let Some(LoadFailed(error)) = world.get(model.0) {
        return Err(Error::Load(error.clone()));
    }
    world.get::<Loading>(model.0).map(|loading| loading.0).ok_or(Error::NoModel)
}

/// Continues a failed load: requests the shards that have not arrived, or places a model that has no place. Does nothing
/// if the load has not failed.
///
/// # Errors
/// The model cannot be placed, or the loader's threads cannot be started. Then the load has failed again.
pub fn retry_load(world: &mut World, model: ModelId) -> Result<(), Error> {
    load::retry_load(world, model.0).map_err(Error::Load)
}

/// Requests the evicted layers of a model whose load has not failed.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn request_layers(world: &mut World, model: ModelId) -> Result<(), Error> {
    progress(world, model)?;
    for layer in weft_systems::related::<weft_components::Layers>(world, model.0) {
        load::request_layer(world, layer)?;
    }
    Ok(())
}

/// Returns a model's hyperparameters.
///
/// # Errors
/// The model has been unloaded.
pub fn config(world: &World, model: ModelId) -> Result<&ModelConfig, Error> {
    world.get(model.0).ok_or(Error::NoModel)
}

/// Returns the sampler settings that a model's file recommends: `general.sampling.*` of a GGUF,
/// `generation_config.json` of a folder. The engine does not apply them. Apply them to your own settings with
/// [`SamplingDefaults::over`].
///
/// # Errors
/// The model has been unloaded.
pub fn sampling_defaults(world: &World, model: ModelId) -> Result<&SamplingDefaults, Error> {
    world.get(model.0).ok_or(Error::NoModel)
}

/// Returns a model's tokenizer.
///
/// # Errors
/// The model has been unloaded, or its file has no vocabulary.
pub fn tokenizer(world: &World, model: ModelId) -> Result<&Tokenizer, Error> {
    world.get::<Model>(model.0).ok_or(Error::NoModel)?;
    Ok(&world.get::<ModelTokenizer>(model.0).ok_or(Error::NoTokenizer)?.0)
}

/// Returns true if a model has a chat template, which [`set_messages`](super::set_messages) needs.
pub fn has_template(world: &World, model: ModelId) -> bool {
    world.get::<ModelTemplate>(model.0).is_some()
}
