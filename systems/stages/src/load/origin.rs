//! What a model is made from: its sources, its tensors and the options that it was spawned with.

use crate::place::GpuLayers;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{ModelConfig, WaveLimits, WeightShard};
use weft_formats::ShardSpec;
use weft_platform::storage::Source;
use weft_platform::{KvFormat, PAGE};

/// How a model is spawned.
#[derive(Clone, Copy, Debug)]
pub struct SpawnOptions {
    /// Tokens that the KV cache holds. `None` for a default.
    pub kv_tokens: Option<usize>,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Layers wanted on places other than the first.
    pub gpu_layers: GpuLayers,
}

impl SpawnOptions {
    /// Pages of the KV cache of a model.
    pub(super) fn slots(&self, config: &ModelConfig) -> u32 {
        slots_of(self.kv_tokens.unwrap_or_else(|| default_kv_tokens(config)))
    }
}

/// Tokens of KV cache if the caller gives no number: the model's context, within bounds. Memory is only taken as it is
/// written, but a context of a million tokens is more than most machines can promise.
pub(super) fn default_kv_tokens(config: &ModelConfig) -> usize {
    config.context.clamp(16_384, 32_768)
}

/// Pages of a KV cache of `tokens`.
pub(super) fn slots_of(tokens: usize) -> u32 {
    u32::try_from(tokens.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX)
}

/// The source of a model: enough to place it again and to load its shards again. A component of the model.
#[derive(Component)]
#[component(immutable)]
pub struct ModelOrigin {
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) specs: Arc<Vec<ShardSpec>>,
    /// The shard entity of each of `specs`.
    pub(super) entities: Arc<Vec<Entity>>,
    pub(super) slots: u32,
    /// Limits of waves before any backend has lowered them.
    pub(super) limits: WaveLimits,
    pub(super) options: SpawnOptions,
}

impl ModelOrigin {
    /// The model's tensors.
    pub fn shards(&self) -> &[ShardSpec] {
        &self.specs
    }

    /// The name of the file, for messages.
    pub fn file(&self) -> String {
        self.sources.first().map_or(String::new(), |source| source.name().to_owned())
    }
}

/// Bytes of tensors in their file.
pub(super) fn file_bytes<'a>(specs: impl IntoIterator<Item = &'a ShardSpec>) -> u64 {
    specs.into_iter().map(|spec| shard_bytes(&spec.shard)).sum()
}

/// Bytes of a shard in its file.
pub(super) fn shard_bytes(shard: &WeightShard) -> u64 {
    shard.range.end.saturating_sub(shard.range.start)
}
