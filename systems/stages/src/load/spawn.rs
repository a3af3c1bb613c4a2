//! A model file becomes entities, is placed, and its loader starts. A model can be placed anew: its layers lose their weights
//! and load again, wherever they are to be computed now.

use super::error::LoadError;
use super::feed::{FetchItem, LoadFeed, Loader, Prepare};
use super::receive::Loading;
use super::text::{ModelTemplate, ModelTokenizer};
use crate::admit::{AdmitCursor, AdmitOptions};
use crate::on_cpu::{self as cpu, CpuBackend, CpuPrepare, CpuWeights};
use crate::on_gpu::{self as gpu, GpuBackend, GpuLayers, GpuModel, Placed, PrepareAll};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    Ends, KvPool, LayerIndex, LayerOf, Layers, LoadProgress, MissingShards, Model, ModelConfig, OnCpu, OnGpu,
    Place, Queued, Resident, ShardOf, StepsAhead, TensorRole, Wave, WaveLimits, WaveOf, Waves,
};
use weft_formats::{ModelFile, ShardOwner, ShardSpec};
use weft_platform::storage::Source;
use weft_platform::{Cpu, KvFormat, PAGE};

/// Tokens of KV cache where the caller names no number: the model's context, within these. Memory is taken only as
/// it is written, but a context of a million tokens is more than most machines can promise.
const DEFAULT_KV_TOKENS: core::ops::RangeInclusive<usize> = 16_384..=32_768;

/// How a model is spawned.
#[derive(Clone, Copy, Debug)]
pub struct SpawnOptions {
    /// Tokens that the KV cache holds; `None` for a default.
    pub kv_tokens: Option<usize>,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Layers wanted on the engine's GPUs, where it has some.
    pub gpu_layers: GpuLayers,
}

/// What a model was made from: enough to place it anew. A component of the model.
#[derive(Component)]
pub struct ModelOrigin {
    sources: Vec<Arc<dyn Source>>,
    specs: Vec<ShardSpec>,
    entities: Vec<Entity>,
    slots: u32,
    limits: WaveLimits,
    options: SpawnOptions,
}

impl ModelOrigin {
    /// The model's tensors.
    pub fn shards(&self) -> &[ShardSpec] {
        &self.specs
    }
}

/// Spawns a model with its layers, shards, waves and KV pool, places it and starts its loader.
///
/// # Errors
/// The model cannot be placed, the KV cache not be allocated, or the loader's thread not be started. Nothing is left behind
/// then.
pub fn spawn_model(world: &mut World, file: ModelFile, options: SpawnOptions) -> Result<Entity, LoadError> {
    let ModelFile { sources, mut config, tokenizer, template, sampling, shards: mut specs } = file;
    let tokens = options
        .kv_tokens
        .unwrap_or_else(|| config.context.clamp(*DEFAULT_KV_TOKENS.start(), *DEFAULT_KV_TOKENS.end()));
    let slots = u32::try_from(tokens.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX);
    // No context can hold more than the cache does.
    config.settle_context((slots as usize).saturating_mul(PAGE));
    specs.retain(|spec| config.reads(spec.shard.role));
    let bytes = specs.iter().map(|spec| spec.shard.range.end - spec.shard.range.start).sum();
    let limits = WaveLimits::new(&config, bytes);
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
    let owner = |spec: &ShardSpec| match spec.owner {
        ShardOwner::Model => model,
        ShardOwner::Layer(index) => layers[index],
    };
    let entities =
        specs.iter().map(|spec| world.spawn((spec.shard.clone(), ShardOf(owner(spec)))).id()).collect();
    world.entity_mut(model).insert(ModelOrigin { sources, specs, entities, slots, limits, options });
    match place_model(world, model, true) {
        Ok(()) => Ok(model),
        Err(error) => {
            world.despawn(model);
            Err(error)
        }
    }
}

/// Places a model, on GPUs where the engine has some and `on_gpu` allows it, and starts to load its weights to where they are
/// computed. What was loaded before is dropped.
///
/// # Errors
/// As [`spawn_model`]; the model is then as incomplete as it was.
pub fn place_model(world: &mut World, model: Entity, on_gpu: bool) -> Result<(), LoadError> {
    let (Some(origin), Some(config)) =
        (world.get::<ModelOrigin>(model), world.get::<ModelConfig>(model).cloned())
    else {
        return Ok(());
    };
    let name = origin.sources.first().map_or(String::new(), |source| source.name().to_owned());
    let backend = world.get_resource::<GpuBackend>().filter(|backend| on_gpu && !backend.0.is_empty());
    let placed = match backend {
        Some(backend) => {
            let wanted = gpu::Wanted {
                config: &config,
                shards: &origin.specs,
                layers: origin.options.gpu_layers,
                slots: origin.slots as usize,
                kv_format: origin.options.kv_format,
                limits: origin.limits,
                max_rows: world.get_resource::<AdmitOptions>().copied().unwrap_or_default().max_rows,
            };
            match gpu::place(backend, &wanted) {
                Err(error) if wanted.layers == GpuLayers::Auto && error.is_of_model() => {
                    tracing::warn!(model = name, %error, "stays on the CPU");
                    Placed::on_cpu(&config, origin.limits)
                }
                placed => placed.map_err(|source| LoadError::Gpu { file: name.clone(), source })?,
            }
        }
        None => Placed::on_cpu(&config, origin.limits),
    };
    let on_cpu = placed.layers.contains(&Place::Cpu) || config.layers == 0;
    let cpu_part = on_cpu.then(|| cpu::place(&config, origin.slots, origin.options.kv_format)).transpose()?;
    let cpu = world.get_resource::<CpuBackend>().map_or_else(Cpu::serial, |backend| backend.0);
    let items = fetch_items(origin, &placed, &config, cpu);
    let owners: Vec<Entity> =
        items.iter().map(|item| world.get::<ShardOf>(item.entity).map_or(model, |of| of.0)).collect();
    let progress = LoadProgress {
        model,
        bytes: 0,
        total_bytes: items.iter().map(|item| item.shard.range.end - item.shard.range.start).sum(),
        shards: 0,
        total_shards: items.len(),
        layers: 0,
        total_layers: config.layers,
    };
    let entities: Vec<Entity> = items.iter().map(|item| item.entity).collect();
    let feed = start(Loader::new(origin.sources.clone(), items), cpu, &name)?;

    let layers = world.get::<Layers>(model).map_or_else(Vec::new, |layers| layers.entities().to_vec());
    for (layer, place) in layers.iter().zip(&placed.layers) {
        let mut layer = world.entity_mut(*layer);
        layer.remove::<(Resident, OnCpu, OnGpu)>().insert(MissingShards::default());
        match place {
            Place::Cpu => layer.insert(OnCpu),
            Place::Gpu(number) => layer.insert(OnGpu(*number)),
        };
    }
    world.entity_mut(model).insert(MissingShards::default());
    for (shard, owner) in entities.into_iter().zip(owners) {
        world.entity_mut(shard).remove::<(Resident, CpuWeights)>().insert(Queued);
        if let Some(mut missing) = world.get_mut::<MissingShards>(owner) {
            missing.0.insert(shard);
        }
    }
    replace_waves(world, model, &placed);
    let mut model = world.entity_mut(model);
    model.remove::<(Resident, cpu::CpuKv, cpu::CpuPlan)>();
    model.insert((
        Loading(progress),
        feed,
        placed.ends,
        StepsAhead(placed.ahead),
        placed.limits,
        placed.model,
    ));
    if let Some(cpu_part) = cpu_part {
        model.insert(cpu_part);
    }
    Ok(())
}

/// Waves of a model: one, or one for each place that layers are computed in, so that each has one to work on.
fn replace_waves(world: &mut World, model: Entity, placed: &Placed) {
    let old = world.get::<Waves>(model).map_or_else(Vec::new, |waves| waves.entities().to_vec());
    for wave in old {
        world.despawn(wave);
    }
    for _ in 0..placed.model.0.len().max(1) {
        world.spawn((Wave::default(), WaveOf(model), cpu::CpuScratch::default()));
    }
}

/// Each shard with what prepares it for the places that read it.
fn fetch_items(origin: &ModelOrigin, placed: &Placed, config: &ModelConfig, cpu: Cpu) -> Vec<FetchItem> {
    let cpu: Arc<dyn Prepare> = Arc::new(CpuPrepare { kernels: cpu.kernels });
    let item = |(spec, entity): (&ShardSpec, &Entity)| {
        let mut places: Vec<Arc<dyn Prepare>> = placed.model.prepare(spec);
        if placed.reads_on_cpu(spec, config) {
            places.push(Arc::clone(&cpu));
        }
        let backend: Arc<dyn Prepare> = match places.len() {
            1 => places.remove(0),
            _ => Arc::new(PrepareAll(places)),
        };
        FetchItem { entity: *entity, shard: spec.shard.clone(), backend }
    };
    origin.specs.iter().zip(&origin.entities).map(item).collect()
}

impl Placed {
    /// Everything on the CPU.
    fn on_cpu(config: &ModelConfig, limits: WaveLimits) -> Self {
        let layers = vec![Place::Cpu; config.layers];
        Self { model: GpuModel::default(), layers, ends: Ends::default(), ahead: 0, limits }
    }

    /// Whether the CPU reads a shard.
    fn reads_on_cpu(&self, spec: &ShardSpec, config: &ModelConfig) -> bool {
        match (spec.owner, spec.shard.role) {
            (ShardOwner::Layer(index), _) => self.layers[index] == Place::Cpu,
            (ShardOwner::Model, TensorRole::TokenEmbedding) => {
                self.ends.embed == Place::Cpu || (config.tied && self.ends.head == Place::Cpu)
            }
            // Added to the embedding, wherever the head is.
            (
                ShardOwner::Model,
                TensorRole::PositionEmbedding
                | TensorRole::TokenTypes
                | TensorRole::EmbeddingNorm
                | TensorRole::EmbeddingNormBias,
            ) => self.ends.embed == Place::Cpu,
            // The angles of rotary embedding are computed on the host for every place, and hidden states that are to become
            // embeddings normed there.
            (
                ShardOwner::Model,
                TensorRole::RopeFactors | TensorRole::RopeFactorsLong | TensorRole::OutputNorm,
            ) => true,
            (ShardOwner::Model, _) => self.ends.head == Place::Cpu,
        }
    }
}

#[cfg(not(target_family = "wasm"))]
fn start(loader: Loader, cpu: Cpu, file: &str) -> Result<LoadFeed, LoadError> {
    LoadFeed::threaded(loader, cpu, file)
}

#[cfg(target_family = "wasm")]
fn start(loader: Loader, _cpu: Cpu, _file: &str) -> Result<LoadFeed, LoadError> {
    Ok(LoadFeed::inline(loader))
}
