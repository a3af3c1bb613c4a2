//! Which layers of a model go to which GPU, and the memory they take there.
//!
//! The last layers and the head go first, so that a model that does not fit crosses from the CPU to the GPU once and its
//! hidden state never comes back. Several GPUs share the layers in proportion to their memory, in order.

use super::GpuBackend;
use super::grow;
use super::part::{GpuModel, GpuPart, SPLIT_ROWS};
use super::product::device_columns;
use super::scratch::{Scratch, ScratchSize, expert_rows, logit_rows};
use super::weights::{EndWeights, LayerWeights};
use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::Arc;
use weft_components::{Ends, ModelConfig, Place, TensorRole, WaveLimits, WeightShard};
use weft_formats::{ShardOwner, ShardSpec};
use weft_gpu::{
    ActFormat, AttentionKernels, AttentionShape, Encoding, Gpu, GpuError, plane_bytes, storage_bytes,
};
use weft_platform::{KvFormat, PAGE};

/// How many layers are wanted on GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit.
    #[default]
    Auto,
    /// This many, the last ones; all and the head for as many as the model has, or more.
    Count(usize),
}

/// Where a model's layers and ends have been placed.
pub struct Placed {
    /// What the GPUs hold.
    pub model: GpuModel,
    /// The place of each layer.
    pub layers: Vec<Place>,
    /// The place of the ends.
    pub ends: Ends,
    /// Steps that may be under way with their tokens unread.
    pub ahead: usize,
    /// Limits of waves, made narrower by what devices take.
    pub limits: WaveLimits,
}

/// What has to be placed.
pub struct Wanted<'a> {
    /// The model's numbers.
    pub config: &'a ModelConfig,
    /// Its tensors.
    pub shards: &'a [ShardSpec],
    /// Layers wanted on GPUs.
    pub layers: GpuLayers,
    /// Pages of the KV cache.
    pub slots: usize,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Limits of waves.
    pub limits: WaveLimits,
    /// Most rows of a wave.
    pub max_rows: usize,
}

/// Steps that may be under way with their tokens unread, where everything is on one GPU: enough that the device never waits
/// for the host.
pub(super) const AHEAD: usize = 2;

/// Places a model on the GPUs of `backend`.
///
/// # Errors
/// It cannot run there, or does not fit as asked for. With [`GpuLayers::Auto`] what does not fit stays on the CPU.
pub fn place(backend: &GpuBackend, wanted: &Wanted<'_>) -> Result<Placed, GpuError> {
    let config = wanted.config;
    if wanted.kv_format != KvFormat::F16 {
        return Err(GpuError::KvFormat { format: format!("{:?}", wanted.kv_format) });
    }
    let count = match wanted.layers {
        GpuLayers::Auto => config.layers,
        GpuLayers::Count(count) => count.min(config.layers),
    };
    let mut limits = wanted.limits;
    limits.rows = limits.rows.min(wanted.max_rows).max(1);
    let mut layers = vec![Place::Cpu; config.layers];
    let mut parts = Vec::new();
    let ranges = shares(&backend.0, config.layers - count..config.layers);
    // From the last layers on: what does not fit is left to the CPU.
    for (number, range) in ranges.into_iter().enumerate().rev() {
        if range.is_empty() {
            continue;
        }
        let gpu = &backend.0[number];
        limits.rows = expert_rows(&gpu.capabilities, config, limits.rows);
        limits.logit_rows = logit_rows(gpu, config, &limits);
        let room = Room { wanted, gpu, number, limits: &limits };
        let Some(part) = room.take(range.clone())? else { break };
        limits.pages = limits.pages.min(part.scratch.table_words);
        let taken = part.layers.keys().copied().collect::<Vec<_>>();
        for layer in &taken {
            layers[*layer] = Place::Gpu(number);
        }
        parts.push(part);
        if taken.len() < range.len() {
            break;
        }
    }
    parts.reverse();
    let ends = Ends {
        embed: layers.first().copied().unwrap_or_default(),
        head: layers.last().copied().unwrap_or_default(),
    };
    let alone = parts.len() == 1 && !layers.contains(&Place::Cpu);
    Ok(Placed { model: GpuModel(parts), layers, ends, ahead: if alone { AHEAD } else { 0 }, limits })
}

/// Splits layers over GPUs in proportion to the memory that each may use, or has; evenly where that is not known of all.
fn shares(gpus: &[Arc<Gpu>], layers: Range<usize>) -> Vec<Range<usize>> {
    let memory = |gpu: &Gpu| gpu.options.memory.or(gpu.memory);
    let known = gpus.iter().all(|gpu| memory(gpu).is_some_and(|bytes| bytes > 0));
    let weight = |gpu: &Gpu| memory(gpu).filter(|_| known).map_or(1.0, |bytes| bytes as f64);
    let total: f64 = gpus.iter().map(|gpu| weight(gpu)).sum();
    let (mut first, mut mass) = (layers.start, 0.0);
    gpus.iter()
        .map(|gpu| {
            mass += weight(gpu);
            let end = layers.start + (layers.len() as f64 * mass / total).round() as usize;
            let range = first..end.clamp(first, layers.end);
            first = range.end;
            range
        })
        .collect()
}

/// One GPU, to be filled.
struct Room<'a> {
    wanted: &'a Wanted<'a>,
    gpu: &'a Arc<Gpu>,
    number: usize,
    limits: &'a WaveLimits,
}

impl Room<'_> {
    fn shards(&self, owner: ShardOwner) -> Vec<&WeightShard> {
        self.wanted.shards.iter().filter(|spec| spec.owner == owner).map(|spec| &spec.shard).collect()
    }

    fn tokens(&self) -> usize {
        self.wanted.slots * PAGE
    }

    /// Bytes of a layer with its KV cache.
    fn layer_bytes(&self, layer: usize) -> Result<u64, GpuError> {
        let config = self.wanted.config;
        let weights = bytes_of(&self.shards(ShardOwner::Layer(layer)))?;
        let cache = |dimensions: usize| {
            storage_bytes(2 * self.tokens() as u64 * (config.kv_heads * dimensions) as u64)
        };
        Ok(weights + cache(config.key_length) + cache(config.value_length))
    }

    /// Whether the ends are here when the layers of `range` are.
    fn ends(&self, range: &Range<usize>) -> (bool, bool) {
        (range.start == 0, range.end == self.wanted.config.layers)
    }

    /// Bytes of everything but layers, where those of `range` are here.
    fn fixed_bytes(&self, range: &Range<usize>, partials: u64) -> Result<u64, GpuError> {
        let (embed, head) = self.ends(range);
        let tied = self.wanted.config.tied;
        let shards = self.shards(ShardOwner::Model);
        let ends: Vec<_> = shards
            .into_iter()
            .filter(|shard| match shard.role {
                TensorRole::TokenEmbedding => embed || (head && tied),
                TensorRole::PositionEmbedding | TensorRole::TokenTypes => embed,
                TensorRole::Output | TensorRole::OutputNorm => head,
                _ => false,
            })
            .collect();
        let shape = self.scratch(range, partials).of(self.wanted.config);
        Ok(bytes_of(&ends)? + Scratch::bytes(&self.gpu.capabilities, shape)?)
    }

    /// What the buffers of the largest wave are made for, where the layers of `range` are here.
    fn scratch(&self, range: &Range<usize>, partials: u64) -> ScratchSize {
        let (_, head) = self.ends(range);
        ScratchSize {
            rows: self.limits.rows,
            logit_rows: if head { self.limits.logit_rows } else { 1 },
            tokens: self.tokens(),
            partials,
        }
    }

    /// The layers of `range`, from the last on, that fit the bytes that may be used.
    fn within_budget(&self, range: Range<usize>, partials: u64) -> Result<Range<usize>, GpuError> {
        let Some(budget) = self.gpu.options.memory else { return Ok(range) };
        let with_fixed = |layers: u64, first: usize| {
            Ok::<_, GpuError>(layers.saturating_add(self.fixed_bytes(&(first..range.end), partials)?))
        };
        let (mut first, mut layers) = (range.end, 0u64);
        while first > range.start {
            let more = layers.saturating_add(self.layer_bytes(first - 1)?);
            if with_fixed(more, first - 1)? > budget {
                break;
            }
            (first, layers) = (first - 1, more);
        }
        if first > range.start && self.wanted.layers != GpuLayers::Auto {
            let all = range.clone().map(|layer| self.layer_bytes(layer)).sum::<Result<u64, _>>()?;
            let (layers, fit) = (range.len(), range.end - first);
            let needed = with_fixed(all, range.start)?;
            return Err(GpuError::DoesNotFit { layers, needed, budget, fit });
        }
        Ok(first..range.end)
    }

    /// Takes memory for as many layers of `range` as there is room for; `None` where there is room for none.
    fn take(&self, range: Range<usize>) -> Result<Option<GpuPart>, GpuError> {
        let (gpu, config) = (&**self.gpu, self.wanted.config);
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            key: config.key_length,
            value: config.value_length,
            scale: config.attention_scale,
            cap: config.attention_cap.unwrap_or(0.0),
            window: 0,
        };
        let attention = (shape, shape.kernels(&gpu.capabilities, ActFormat::F32)?);
        check(config, &shape)?;
        let partials = attention.1.partials_bytes(SPLIT_ROWS, weft_gpu::SPLITS_MAX);
        let mut range = self.within_budget(range, partials)?;
        while !range.is_empty() {
            match self.allocate(&attention, partials, range.clone()) {
                Ok(part) => return Ok(Some(part)),
                // Whatever has been taken is given back, and some layers fewer are asked for.
                Err(GpuError::OutOfMemory { .. }) if self.wanted.layers == GpuLayers::Auto => {
                    let _ = gpu.device.poll(weft_gpu::wgpu::PollType::Poll);
                    range.start += range.len().div_ceil(8);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn allocate(
        &self,
        attention: &(AttentionShape, AttentionKernels),
        partials: u64,
        range: Range<usize>,
    ) -> Result<GpuPart, GpuError> {
        let (gpu, config) = (&**self.gpu, self.wanted.config);
        let (embed, head) = self.ends(&range);
        let ends = EndWeights::new(gpu, config, &self.shards(ShardOwner::Model), embed, head)?;
        let most = self.scratch(&range, partials);
        let scratch = Scratch::new(gpu, most.of(config))?;
        let layers = range
            .map(|layer| {
                let shards = self.shards(ShardOwner::Layer(layer));
                Ok((layer, LayerWeights::new(gpu, config, &shards, self.tokens())?))
            })
            .collect::<Result<BTreeMap<_, _>, GpuError>>()?;
        // There is room for the largest wave. Most of it is given back until there is one, unless the caller has said how much
        // memory is the engine's.
        let scratch = match gpu.options.memory {
            Some(_) => scratch,
            None => scratch.grown(gpu, grow::first(most).of(config))?,
        };
        let scratch = (scratch, most);
        Ok(GpuPart::new(self.number, Arc::clone(self.gpu), layers, ends, scratch, attention.clone(), config))
    }
}

/// Bytes of tensors on a device. Neighbours may share buffers: then it is some bytes less.
fn bytes_of(shards: &[&WeightShard]) -> Result<u64, GpuError> {
    let each = |shard: &&WeightShard| {
        if shard.role.is_vector() {
            return Ok(storage_bytes(4 * shard.cols as u64));
        }
        let columns = device_columns(shard.role, shard.format, shard.cols);
        let Encoding { layout, .. } = Encoding::of(&shard.name, shard.format, columns)?;
        let planes = plane_bytes(layout, shard.rows, columns).into_iter().filter(|bytes| *bytes > 0);
        Ok(planes.map(storage_bytes).sum::<u64>())
    };
    shards.iter().map(each).sum()
}

/// Experts whose scores, or whose pairs' numbers, workgroup memory holds.
const MOST_EXPERTS: usize = 1024;

/// Shapes that kernels take: pairs of neighbouring elements are stored together, gates in vectors of four.
fn check(config: &ModelConfig, attention: &AttentionShape) -> Result<(), GpuError> {
    let even = [("key length", config.key_length), ("value length", config.value_length)];
    if let Some((what, value)) = even.into_iter().find(|(_, value)| !value.is_multiple_of(2)) {
        return Err(GpuError::Shape { what, value, allowed: "even numbers" });
    }
    if let Some(experts) = config.experts.filter(|experts| experts.count > MOST_EXPERTS) {
        let allowed = "up to 1024";
        return Err(GpuError::Shape { what: "number of experts", value: experts.count, allowed });
    }
    let experts = config.experts.map(|experts| (experts.feed_forward, experts.shared_feed_forward));
    let (each, shared) = experts.unwrap_or_default();
    if let Some(value) =
        [config.feed_forward, each, shared].into_iter().find(|width| !width.is_multiple_of(4))
    {
        return Err(GpuError::Shape { what: "feed-forward width", value, allowed: "multiples of 4" });
    }
    config
        .layer
        .iter()
        .try_for_each(|layer| AttentionShape { window: layer.window.unwrap_or(0), ..*attention }.check())
}
