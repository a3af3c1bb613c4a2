//! A model file becomes entities, and its loader starts.

use super::error::LoadError;
use super::feed::{FetchItem, LoadFeed, Loader, Prepare};
use super::file::{ModelFile, ModelTemplate, ModelTokenizer};
use super::manifest::ShardOwner;
use super::receive::Loading;
use crate::admit::AdmitCursor;
use crate::cpu::{self, CpuPrepare};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    KvPool, LayerIndex, LayerOf, LoadProgress, MissingShards, Model, OnCpu, Queued, ShardOf, Wave,
    WaveLimits, WaveOf,
};
use weft_platform::{KvFormat, PAGE};

/// Tokens of KV cache where the caller names no number: the model's context, within these. Memory is taken only as
/// it is written, but a context of a million tokens is more than most machines can promise.
const DEFAULT_KV_TOKENS: core::ops::RangeInclusive<usize> = 16_384..=32_768;

/// Spawns a model with its layers, shards, wave and KV pool, all on the CPU, and starts its loader.
///
/// # Errors
/// The KV cache cannot be allocated, or the loader's thread not be started. Nothing is left behind then.
pub fn spawn_model(
    world: &mut World,
    file: ModelFile,
    kv_tokens: Option<usize>,
    kv_format: KvFormat,
) -> Result<Entity, LoadError> {
    let ModelFile { sources, config, tokenizer, template, shards } = file;
    let name = sources.first().map_or(String::new(), |source| source.name().to_owned());
    let tokens = kv_tokens
        .unwrap_or_else(|| config.context.clamp(*DEFAULT_KV_TOKENS.start(), *DEFAULT_KV_TOKENS.end()));
    let slots = u32::try_from(tokens.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX);
    let placement = cpu::place(&config, slots, kv_format)?;
    let progress = LoadProgress {
        model: Entity::PLACEHOLDER,
        bytes: 0,
        total_bytes: shards.iter().map(|spec| spec.shard.range.end - spec.shard.range.start).sum(),
        shards: 0,
        total_shards: shards.len(),
        layers: 0,
        total_layers: config.layers,
    };
    let layers = config.layers;
    let limits = WaveLimits::new(&config, progress.total_bytes);
    let model =
        world.spawn((Model, config, limits, KvPool::new(slots), AdmitCursor::default(), placement)).id();
    world.entity_mut(model).insert(Loading(LoadProgress { model, ..progress }));
    if let Some(tokenizer) = tokenizer {
        world.entity_mut(model).insert(ModelTokenizer(Arc::new(tokenizer)));
    }
    if let Some(template) = template {
        world.entity_mut(model).insert(ModelTemplate(Arc::new(template)));
    }
    let layers: Vec<Entity> = (0..layers)
        .map(|index| world.spawn((LayerOf(model), LayerIndex(index), MissingShards::default(), OnCpu)).id())
        .collect();
    world.entity_mut(model).insert(MissingShards::default());
    world.spawn((Wave::default(), WaveOf(model), cpu::CpuScratch::default()));
    let backend: Arc<dyn Prepare> = Arc::new(CpuPrepare);
    let mut items = Vec::with_capacity(shards.len());
    for spec in shards {
        let owner = match spec.owner {
            ShardOwner::Model => model,
            ShardOwner::Layer(index) => layers[index],
        };
        let entity = world.spawn((spec.shard.clone(), ShardOf(owner), Queued)).id();
        if let Some(mut missing) = world.get_mut::<MissingShards>(owner) {
            missing.0.insert(entity);
        }
        items.push(FetchItem { entity, shard: spec.shard, backend: Arc::clone(&backend) });
    }
    match start(Loader::new(sources, items), &name) {
        Ok(feed) => {
            world.entity_mut(model).insert(feed);
            Ok(model)
        }
        Err(error) => {
            world.despawn(model);
            Err(error)
        }
    }
}

#[cfg(not(target_family = "wasm"))]
fn start(loader: Loader, file: &str) -> Result<LoadFeed, LoadError> {
    LoadFeed::threaded(loader, file)
}

#[cfg(target_family = "wasm")]
fn start(loader: Loader, _file: &str) -> Result<LoadFeed, LoadError> {
    Ok(LoadFeed::inline(loader))
}
