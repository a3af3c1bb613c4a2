//! Spawning: turns a model file that has been read into entities, places the model and requests its shards.

use super::assign::try_place;
use super::origin::{ModelOrigin, SpawnOptions, file_bytes};
use crate::admit::AdmitCursor;
use crate::place::LoadError;
use crate::text::{ModelTemplate, ModelTokenizer};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{Evictable, KvPool, LayerIndex, LayerOf, Model, ShardOf, WaveLimits};
use weft_formats::{ModelFile, ShardOwner, ShardSpec};
use weft_platform::PAGE;

/// Spawns a model with its layers, shards, waves and KV pool, places it and requests its shards.
///
/// # Errors
/// The model cannot be placed, the KV cache cannot be allocated, or the loader's threads cannot be started. Then
/// nothing is left behind.
pub fn spawn_model(world: &mut World, file: ModelFile, options: SpawnOptions) -> Result<Entity, LoadError> {
    let ModelFile { sources, mut config, tokenizer, template, sampling, shards: mut specs } = file;
    let slots = options.slots(&config);
    // No context can hold more than the cache does.
    config.settle_context((slots as usize).saturating_mul(PAGE));
    specs.retain(|spec| config.reads(spec.shard.role));
    let limits = WaveLimits::new(&config, file_bytes(&specs));
    let count = config.layers;
    let model = world.spawn((Model, config, sampling, KvPool::new(slots), AdmitCursor::default())).id();
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
