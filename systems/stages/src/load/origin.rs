//! What a model is made from: its sources, its tensors and the options that it was spawned with.

use crate::place::GpuLayers;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{KvClass, ModelConfig, WaveLimits, WeightShard};
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
    /// Most bytes of contexts that are kept after their sessions have left them. `None` for all that have room.
    pub prefix_cache: Option<u64>,
}

impl SpawnOptions {
    /// Tokens of the KV cache of a model.
    pub(super) fn tokens(&self, config: &ModelConfig) -> usize {
        self.kv_tokens.unwrap_or_else(|| default_kv_tokens(config))
    }
}

/// Newest tokens of a context that are kept in 16 bits where the others are sealed: the residual length of KIVI (arXiv
/// 2402.02750).
const RECENT: usize = 128;

/// Divides the layers of a model into the classes that a format of the KV cache needs, and returns the format. Pages of an
/// encoder are never complete while they are attended to, so they are not sealed.
pub(super) fn settle_format(config: &mut ModelConfig, format: KvFormat) -> KvFormat {
    match (format.is_sealed(), config.causal) {
        (true, true) => {
            config.keep_recent(RECENT, PAGE);
            format
        }
        (true, false) => KvFormat::F16,
        (false, _) => format,
    }
}

/// Tokens of KV cache if the caller gives no number: the model's context, within bounds. Memory is only taken as it is
/// written, but a context of a million tokens is more than most machines can promise.
pub(super) fn default_kv_tokens(config: &ModelConfig) -> usize {
    config.context.clamp(16_384, 32_768)
}

/// Pages of a KV cache of `tokens`, of each class of layers. `rows` is the largest number of rows of a wave.
///
/// A class with a window needs its window and a wave's rows for each session, whatever the length of its context. How
/// many sessions there will be is not known: the class gets the windows of [`WINDOWS`] sessions, but at least a quarter
/// of the tokens, and at most all of them. A class of newest tokens gets a quarter of that.
pub(super) fn slots_of(tokens: usize, config: &ModelConfig, rows: usize) -> Vec<u32> {
    let pages = |tokens: usize| u32::try_from(tokens.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX);
    let of = |class: &KvClass| match class.window {
        None => pages(tokens),
        Some(window) => {
            let each = window.saturating_add(3 * PAGE);
            // Newest tokens take five times the memory of the others, and are all that is in their format.
            let (sessions, part) = if class.recent_of.is_some() { (WINDOWS / 4, 16) } else { (WINDOWS, 4) };
            let most = each.saturating_mul(sessions).max(tokens / part).saturating_add(rows);
            pages(most.min(tokens))
        }
    };
    config.kv_classes.iter().map(of).collect()
}

/// Sessions whose windows a class of layers has pages for, if the cache has as many.
const WINDOWS: usize = 32;

/// The source of a model: enough to place it again and to load its shards again. A component of the model.
#[derive(Component)]
#[component(immutable)]
pub struct ModelOrigin {
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) specs: Arc<Vec<ShardSpec>>,
    /// The shard entity of each of `specs`.
    pub(super) entities: Arc<Vec<Entity>>,
    /// Pages of each class of layers.
    pub(super) slots: Arc<[u32]>,
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
