//! Spawning: turns a model file that has been read into entities, places the model and requests its shards.

use super::assign::try_place;
use super::origin::{ModelOrigin, SpawnOptions, file_bytes, settle_format, slots_of};
use crate::admit::{AdmitOptions, SessionQueue};
use crate::kv::PrefixTree;
use crate::place::{LoadError, kv_shape};
use crate::speculate::Occurrences;
use crate::text::{ModelTemplate, ModelTokenizer};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    Evictable, KvPool, KvPools, LayerIndex, LayerOf, Model, ModelConfig, ShardOf, WaveLimits,
};
use weft_formats::{ModelFile, ShardOwner, ShardSpec};
use weft_platform::{KvFormat, PAGE};

/// Spawns a model with its layers, shards, waves and KV pool, places it and requests its shards.
///
/// # Errors
/// The model cannot be placed, the KV cache cannot be allocated, or the loader's threads cannot be started. Then
/// nothing is left behind.
pub fn spawn_model(
    world: &mut World,
    file: ModelFile,
    mut options: SpawnOptions,
) -> Result<Entity, LoadError> {
    let ModelFile { sources, mut config, tokenizer, template, sampling, shards: mut specs } = file;
    options.kv_format = settle_format(&mut config, options.kv_format);
    let rows = AdmitOptions::of(world).max_rows;
    let tokens = options.tokens(&config);
    let slots: Arc<[u32]> = slots_of(tokens, &config, rows).into();
    // No context can hold more than the cache does.
    config.settle_context(tokens.max(1).next_multiple_of(PAGE));
    let pools = KvPools(slots.iter().map(|slots| KvPool::new(*slots)).collect());
    let tree =
        PrefixTree::new(options.prefix_cache.unwrap_or(u64::MAX), page_bytes(&config, options.kv_format));
    specs.retain(|spec| config.reads(spec.shard.role));
    let limits = WaveLimits::new(&config, file_bytes(&specs));
    let count = config.layers;
    let model = world
        .spawn((Model, config, sampling, pools, tree))
        .insert((SessionQueue::default(), Occurrences::default()))
        .id();
    if let Some(tokenizer) = tokenizer {
        world.entity_mut(model).insert(ModelTokenizer(Arc::new(tokenizer)));
    }
    if let Some(template) = template {
        world.entity_mut(model).insert(ModelTemplate(Arc::new(template)));
    }
    let layers: Vec<Entity> =
        (0..count).map(|index| world.spawn((LayerOf(model), LayerIndex(index))).id()).collect();
    let spawn = |spec: &ShardSpec| match spec.owner {
        ShardOwner::Model => world.spawn((spec.shard.clone(), ShardOf(model))).id(),
        ShardOwner::Layer(index) => world.spawn((spec.shard.clone(), ShardOf(layers[index]), Evictable)).id(),
    };
    let entities = Arc::new(specs.iter().map(spawn).collect());
    let specs = Arc::new(specs);
    world.entity_mut(model).insert(ModelOrigin { sources, specs, entities, slots, limits, options });
    match try_place(world, model, true) {
        Ok(()) => Ok(model),
        Err(error) => {
            world.despawn(model);
            Err(error)
        }
    }
}

/// Bytes of a page of each class of layers.
fn page_bytes(config: &ModelConfig, format: KvFormat) -> Vec<u64> {
    // Shapes that cannot be stored are refused when the model is placed.
    config
        .kv_classes
        .iter()
        .enumerate()
        .map(|(index, class)| {
            kv_shape(config, format, index, class.layers.len(), 1).bytes().map_or(1, |bytes| bytes as u64)
        })
        .collect()
}
