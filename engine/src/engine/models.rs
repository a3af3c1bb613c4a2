//! The engine's methods for models and adapters.

use super::Engine;
use crate::error::Error;
use crate::options::{LoadOptions, ModelSource};
#[cfg(not(target_family = "wasm"))]
use crate::prefix_files::{LoadedPrefixes, SavedPrefixes};
use crate::prepare::PreparedModel;
use crate::world::{self, AdapterId, AdapterSource, HostMemory, ModelId, SessionId};
#[cfg(not(target_family = "wasm"))]
use std::path::Path;
use weft_components::{Adapter, LoadProgress, ModelConfig, SamplingDefaults};
use weft_gpu::StepTimes;
use weft_systems::kv::PrefixStats;
use weft_systems::load::{Fit, FitOptions};
use weft_systems::on_gpu::GpuShard;
use weft_text::Tokenizer;

impl Engine {
    /// Starts to load a model. Its weights arrive over the following ticks. See [`world::load`].
    ///
    /// # Errors
    /// As [`world::load`].
    pub fn load(&mut self, source: impl Into<ModelSource>, options: &LoadOptions) -> Result<ModelId, Error> {
        world::load(&mut self.world, source, options)
    }

    /// Starts to load a model whose header has been read. See [`world::load_prepared`].
    ///
    /// # Errors
    /// As [`world::load_prepared`].
    pub fn load_prepared(&mut self, model: PreparedModel) -> Result<ModelId, Error> {
        world::load_prepared(&mut self.world, model)
    }

    /// Fits a model into the available memory. See [`world::fit`].
    ///
    /// # Errors
    /// As [`world::fit`].
    pub fn fit(&self, model: &PreparedModel, options: &FitOptions) -> Result<Fit, Error> {
        world::fit(&self.world, model, options)
    }

    /// Runs ticks until all weights of a model are loaded. See [`world::wait_loaded`].
    ///
    /// # Errors
    /// As [`world::wait_loaded`].
    #[cfg(not(target_family = "wasm"))]
    pub fn wait_loaded(&mut self, model: ModelId) -> Result<(), Error> {
        world::wait_loaded(&mut self.world, model)
    }

    /// Drops a model with its weights, KV cache, sessions and adapters. See [`world::unload`].
    pub fn unload(&mut self, model: ModelId) {
        world::unload(&mut self.world, model);
    }

    /// Returns how much of a model has been loaded. See [`world::progress`].
    ///
    /// # Errors
    /// As [`world::progress`].
    pub fn progress(&self, model: ModelId) -> Result<LoadProgress, Error> {
        world::progress(&self.world, model)
    }

    /// Continues a failed load. See [`world::retry_load`].
    ///
    /// # Errors
    /// As [`world::retry_load`].
    pub fn retry_load(&mut self, model: ModelId) -> Result<(), Error> {
        world::retry_load(&mut self.world, model)
    }

    /// Returns a model's hyperparameters. See [`world::config`].
    ///
    /// # Errors
    /// As [`world::config`].
    pub fn config(&self, model: ModelId) -> Result<&ModelConfig, Error> {
        world::config(&self.world, model)
    }

    /// Returns the sampler settings that a model's file recommends. See [`world::sampling_defaults`].
    ///
    /// # Errors
    /// As [`world::sampling_defaults`].
    pub fn sampling_defaults(&self, model: ModelId) -> Result<&SamplingDefaults, Error> {
        world::sampling_defaults(&self.world, model)
    }

    /// Returns a model's tokenizer. See [`world::tokenizer`].
    ///
    /// # Errors
    /// As [`world::tokenizer`].
    pub fn tokenizer(&self, model: ModelId) -> Result<&Tokenizer, Error> {
        world::tokenizer(&self.world, model)
    }

    /// Returns true if a model has a chat template. See [`world::has_template`].
    pub fn has_template(&self, model: ModelId) -> bool {
        world::has_template(&self.world, model)
    }

    /// Returns the host memory that a model uses now, in bytes. See [`world::host_memory`].
    ///
    /// # Errors
    /// As [`world::host_memory`].
    pub fn host_memory(&self, model: ModelId) -> Result<HostMemory, Error> {
        world::host_memory(&self.world, model)
    }

    /// What the prefix cache of a model has saved. See [`world::prefix_stats`].
    ///
    /// # Errors
    /// As [`world::prefix_stats`].
    pub fn prefix_stats(&self, model: ModelId) -> Result<PrefixStats, Error> {
        world::prefix_stats(&self.world, model)
    }

    /// Drops the contexts of a model that no session holds any more. See [`world::clear_prefix_cache`].
    ///
    /// # Errors
    /// As [`world::clear_prefix_cache`].
    pub fn clear_prefix_cache(&mut self, model: ModelId) -> Result<(), Error> {
        world::clear_prefix_cache(&mut self.world, model)
    }

    /// Saves the cached contexts of a model in a folder. See [`world::save_prefixes`].
    ///
    /// # Errors
    /// As [`world::save_prefixes`].
    #[cfg(not(target_family = "wasm"))]
    pub fn save_prefixes(
        &mut self,
        model: ModelId,
        folder: impl AsRef<Path>,
        most_bytes: Option<u64>,
    ) -> Result<SavedPrefixes, Error> {
        world::save_prefixes(&mut self.world, model, folder.as_ref(), most_bytes)
    }

    /// Caches contexts of a model that were saved in a folder. See [`world::load_prefixes`].
    ///
    /// # Errors
    /// As [`world::load_prefixes`].
    #[cfg(not(target_family = "wasm"))]
    pub fn load_prefixes(
        &mut self,
        model: ModelId,
        folder: impl AsRef<Path>,
    ) -> Result<LoadedPrefixes, Error> {
        world::load_prefixes(&mut self.world, model, folder.as_ref())
    }

    /// Returns the GPU shards of a model: what each GPU holds of it. See [`world::gpu_shards`].
    pub fn gpu_shards(&self, model: ModelId) -> &[GpuShard] {
        world::gpu_shards(&self.world, model)
    }

    /// Starts or stops timing the kernels of a model on its GPUs. See [`world::time_gpu`].
    pub fn time_gpu(&mut self, model: ModelId, on: bool) -> bool {
        world::time_gpu(&mut self.world, model, on)
    }

    /// Takes the kernel times that each GPU of a model has measured. See [`world::take_gpu_times`].
    pub fn take_gpu_times(&mut self, model: ModelId) -> Vec<Option<StepTimes>> {
        world::take_gpu_times(&mut self.world, model)
    }

    /// Loads a LoRA adapter for a model. See [`world::load_adapter`].
    ///
    /// # Errors
    /// As [`world::load_adapter`].
    pub fn load_adapter(
        &mut self,
        model: ModelId,
        source: impl Into<AdapterSource>,
    ) -> Result<AdapterId, Error> {
        world::load_adapter(&mut self.world, model, source)
    }

    /// Removes an adapter. Its sessions continue with the plain model. See [`world::remove_adapter`].
    pub fn remove_adapter(&mut self, adapter: AdapterId) {
        world::remove_adapter(&mut self.world, adapter);
    }

    /// Returns the adapters of a model. See [`world::adapters`].
    ///
    /// # Errors
    /// As [`world::adapters`].
    pub fn adapters(&self, model: ModelId) -> Result<Vec<AdapterId>, Error> {
        world::adapters(&self.world, model)
    }

    /// Returns a description of an adapter. See [`world::adapter`].
    ///
    /// # Errors
    /// As [`world::adapter`].
    pub fn adapter(&self, adapter: AdapterId) -> Result<&Adapter, Error> {
        world::adapter(&self.world, adapter)
    }

    /// Returns the adapter that a session uses and its scale. See [`world::adapter_of`].
    ///
    /// # Errors
    /// As [`world::adapter_of`].
    pub fn adapter_of(&self, session: SessionId) -> Result<Option<(AdapterId, f32)>, Error> {
        world::adapter_of(&self.world, session)
    }

    /// Sets the adapter of a session, or the plain model. See [`world::set_adapter`].
    ///
    /// # Errors
    /// As [`world::set_adapter`].
    pub fn set_adapter(
        &mut self,
        session: SessionId,
        adapter: Option<AdapterId>,
        scale: f32,
    ) -> Result<(), Error> {
        world::set_adapter(&mut self.world, session, adapter, scale)
    }
}
