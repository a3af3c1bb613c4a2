//! How much memory the layers and ends of a model need on a GPU, and allocating it.

use super::gpu_shard::GpuShard;
use super::layer_weights::{EndWeights, KvSize, LayerKv, LayerMap, LayerWeights};
use super::product::device_columns;
use super::reserved::Reserved;
use super::scratch::{Scratch, ScratchSize, expert_rows, logit_rows};
use super::wave_upload::SPLIT_ROWS;
use crate::place::{Assignment, EndsWanted, Need, class_format};
use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::Arc;
use weft_components::{LayerConfig, ModelConfig, TensorRole, WaveLimits, WeightShard};
use weft_formats::ShardOwner;
use weft_gpu::{
    ActFormat, AttentionKernels, AttentionShape, Encoding, Gpu, GpuError, KV_CLASSES, KvLayout, plane_bytes,
    storage_bytes,
};
use weft_platform::{KvFormat, PAGE, Signal};

/// The limits of a model's waves on a GPU.
pub(super) fn limits_on(gpu: &Gpu, wanted: &Assignment<'_>) -> WaveLimits {
    let mut limits = wanted.limits;
    limits.rows = limits.rows.min(wanted.max_rows).max(1);
    limits.rows = expert_rows(&gpu.capabilities, wanted.config, limits.rows);
    limits.logit_rows = logit_rows(gpu, wanted.config, &limits);
    limits
}

/// One GPU and the assignment to fill it with.
pub(super) struct Capacity<'a> {
    pub(super) wanted: &'a Assignment<'a>,
    pub(super) gpu: &'a Arc<Gpu>,
    /// The GPU's index among the engine's GPUs.
    pub(super) number: usize,
    pub(super) limits: WaveLimits,
    /// The ends already on this GPU: the embedding, the head.
    pub(super) held: (bool, bool),
    /// Bytes that the GPU's memory budget has left. `None` if it has no budget.
    budget: Option<u64>,
}

impl<'a> Capacity<'a> {
    /// The capacity for an assignment, beside `reserved` bytes that models hold on the GPU. Fails if this GPU cannot
    /// compute the assignment.
    pub(super) fn new(
        wanted: &'a Assignment<'a>,
        (gpu, number): (&'a Arc<Gpu>, usize),
        held: (bool, bool),
        reserved: u64,
    ) -> Result<Self, GpuError> {
        check(wanted.config, &attention_shape(wanted))?;
        let budget = gpu.options.memory.map(|bytes| bytes.saturating_sub(reserved));
        Ok(Self { wanted, gpu, number, limits: limits_on(gpu, wanted), held, budget })
    }

    pub(super) fn shards(&self, owner: ShardOwner) -> Vec<&'a WeightShard> {
        self.wanted.shards.iter().filter(|spec| spec.owner == owner).map(|spec| &spec.shard).collect()
    }

    /// The size of a layer's KV cache.
    fn kv_size(&self, layer: usize) -> KvSize {
        let Assignment { config, kv_format, slots, .. } = *self.wanted;
        let LayerConfig { kv_class, recent, .. } = config.layer.get(layer).copied().unwrap_or_default();
        let recent_slots =
            recent.and_then(|recent| slots.get(recent.class)).map_or(0, |slots| *slots as usize);
        let layout = kv_layout(class_format(config, kv_format, kv_class));
        KvSize { layout, slots: self.wanted.slots_of(layer), recent_slots }
    }

    /// Tokens of the classes of layers with the most.
    fn tokens(&self) -> usize {
        self.wanted.slots.iter().max().map_or(0, |slots| *slots as usize * PAGE)
    }

    /// Bytes of a layer's weights, and of its KV cache.
    fn layer_bytes(&self, layer: usize) -> Result<(u64, u64), GpuError> {
        let config = self.wanted.config;
        let weights = bytes_of(&self.shards(ShardOwner::Layer(layer)))?;
        let cache = self.kv_size(layer).bytes(config);
        Ok((weights, cache.map(storage_bytes).iter().sum()))
    }

    /// Bytes of the ends on this GPU if it holds the layers of `range`.
    fn end_bytes(&self, range: &Range<usize>) -> Result<u64, GpuError> {
        let (embed, head) = self.wanted.ends_with(range, self.held);
        let tied = self.wanted.config.tied;
        let mut shards = self.shards(ShardOwner::Model);
        shards.retain(|shard| match shard.role {
            TensorRole::TokenEmbedding => embed || (head && tied),
            TensorRole::PositionEmbedding | TensorRole::TokenTypes => embed,
            TensorRole::Output | TensorRole::OutputNorm => head,
            _ => false,
        });
        bytes_of(&shards)
    }

    /// Bytes of the buffers of the largest wave.
    fn scratch_bytes(&self, range: &Range<usize>, partials: u64) -> Result<u64, GpuError> {
        let shape = self.scratch(range, partials).of(self.wanted.config);
        Scratch::bytes(&self.gpu.capabilities, shape)
    }

    /// Sizes of the buffers of the largest wave, if this GPU holds the layers of `range`.
    fn scratch(&self, range: &Range<usize>, partials: u64) -> ScratchSize {
        let (_, head) = self.wanted.ends_with(range, self.held);
        ScratchSize {
            rows: self.limits.rows,
            logit_rows: if head { self.limits.logit_rows } else { 1 },
            tokens: self.tokens(),
            partials,
        }
    }

    /// Sizes that the buffers may grow to once the GPU holds the assignment's ends. Rows stay those of `most`, the
    /// previous limit.
    pub(super) fn most(&self, range: &Range<usize>, most: ScratchSize) -> ScratchSize {
        let scratch = self.scratch(range, most.partials);
        ScratchSize { rows: most.rows, ..scratch }
    }

    fn partials(&self, kernels: &AttentionKernels) -> u64 {
        kernels.partials_bytes(SPLIT_ROWS, weft_gpu::SPLITS_MAX)
    }

    fn kernels(&self) -> Result<(AttentionShape, AttentionKernels), GpuError> {
        let shape = attention_shape(self.wanted);
        Ok((shape, shape.kernels(&self.gpu.capabilities, ActFormat::F32)?))
    }

    /// Memory that the assignment needs.
    pub(super) fn need(&self) -> Result<Need, GpuError> {
        let range = &self.wanted.layers;
        let mut need = Need { weights: self.end_bytes(range)?, ..Need::default() };
        for layer in range.clone() {
            let (weights, kv) = self.layer_bytes(layer)?;
            need.weights = need.weights.saturating_add(weights);
            need.kv = need.kv.saturating_add(kv);
        }
        need.scratch = self.scratch_bytes(range, self.partials(&self.kernels()?.1))?;
        Ok(need)
    }

    /// Bytes of the ends and of the buffers of the largest wave, if this GPU holds the layers of `range`.
    fn fixed_bytes(&self, range: &Range<usize>, partials: u64) -> Result<u64, GpuError> {
        Ok(self.end_bytes(range)?.saturating_add(self.scratch_bytes(range, partials)?))
    }

    /// Bytes reserved for a shard that holds `held` and takes the layers of `range`.
    fn reserve(&self, held: &Reserved, range: &Range<usize>, partials: u64) -> Result<Reserved, GpuError> {
        let mut reserved = held.clone();
        for layer in range.clone() {
            reserved.add_layer(layer, self.layer_bytes(layer)?);
        }
        reserved.fixed = self.fixed_bytes(range, partials)?;
        Ok(reserved)
    }

    /// Bytes reserved for a shard that takes the assignment in addition to what it holds. Fails if that exceeds the
    /// budget.
    fn reserve_more(&self, gpu_shard: &GpuShard) -> Result<Reserved, GpuError> {
        let range = &self.wanted.layers;
        let reserved = self.reserve(&gpu_shard.reserved, range, gpu_shard.most.partials)?;
        let needed = reserved.bytes().saturating_sub(gpu_shard.reserved.bytes());
        match self.budget {
            Some(budget) if needed > budget => {
                Err(GpuError::DoesNotFit { layers: range.len(), needed, budget, fit: 0 })
            }
            _ => Ok(reserved),
        }
    }

    /// The layers of the assignment, counted from the last one, that fit the memory budget.
    fn within_budget(&self, partials: u64) -> Result<Range<usize>, GpuError> {
        let range = self.wanted.layers.clone();
        let Some(budget) = self.budget else { return Ok(range) };
        let with_fixed = |layers: u64, first: usize| {
            Ok::<_, GpuError>(layers.saturating_add(self.fixed_bytes(&(first..range.end), partials)?))
        };
        let layer_bytes = |layer| self.layer_bytes(layer).map(|(weights, kv)| weights.saturating_add(kv));
        let (mut first, mut layers) = (range.end, 0u64);
        if range.is_empty() && matches!(self.wanted.ends, EndsWanted::Exactly { .. }) {
            let needed = with_fixed(0, first)?;
            if needed > budget {
                return Err(GpuError::DoesNotFit { layers: 0, needed, budget, fit: 0 });
            }
        }
        while first > range.start {
            let more = layers.saturating_add(layer_bytes(first - 1)?);
            if with_fixed(more, first - 1)? > budget {
                break;
            }
            (first, layers) = (first - 1, more);
        }
        if first > range.start && self.wanted.all {
            let all = range.clone().map(layer_bytes).sum::<Result<u64, _>>()?;
            let (layers, fit) = (range.len(), range.end - first);
            let needed = with_fixed(all, range.start)?;
            return Err(GpuError::DoesNotFit { layers, needed, budget, fit });
        }
        Ok(first..range.end)
    }

    /// Allocates memory for as many layers of the assignment as fit. Returns `None` if none fits.
    pub(super) fn take(&self, wake: Arc<Signal>) -> Result<Option<(GpuShard, Range<usize>)>, GpuError> {
        let attention = self.kernels()?;
        let partials = self.partials(&attention.1);
        let mut range = self.within_budget(partials)?;
        while !range.is_empty() || matches!(self.wanted.ends, EndsWanted::Exactly { .. }) {
            match self.allocate(&attention, partials, range.clone(), &wake) {
                Ok(gpu_shard) => return Ok(Some((gpu_shard, range))),
                // What has been allocated is freed, and the next attempt asks for fewer layers.
                Err(GpuError::OutOfMemory { .. }) if !self.wanted.all && !range.is_empty() => {
                    let _ = self.gpu.device.poll(weft_gpu::wgpu::PollType::Poll);
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
        wake: &Arc<Signal>,
    ) -> Result<GpuShard, GpuError> {
        let (gpu, config) = (&**self.gpu, self.wanted.config);
        let ends = self.end_weights(&range)?;
        let most = self.scratch(&range, partials);
        let scratch = Scratch::new(gpu, most.of(config))?;
        let reserved = self.reserve(&Reserved::default(), &range, partials)?;
        let (kv, layers) = self.layers(range, &BTreeMap::new())?;
        // The largest wave fits. Most of its memory is freed until such a wave comes, unless the caller has reserved a
        // fixed amount of memory for the engine.
        let scratch = match gpu.options.memory {
            Some(_) => scratch,
            None => scratch.grown(gpu, most.first().of(config))?,
        };
        let scratch = (scratch, most, reserved);
        let place = (self.wanted.place, self.number);
        Ok(GpuShard::new(
            place,
            Arc::clone(self.gpu),
            (layers, kv),
            ends,
            scratch,
            attention.clone(),
            config,
            wake,
        ))
    }

    /// Allocates memory for the ends.
    pub(super) fn end_weights(&self, range: &Range<usize>) -> Result<EndWeights, GpuError> {
        let (embed, head) = self.wanted.ends_with(range, self.held);
        EndWeights::new(self.gpu, self.wanted.config, &self.shards(ShardOwner::Model), embed, head)
    }

    /// Allocates memory for layers. `kv` has the KV caches already on this GPU.
    pub(super) fn layers(
        &self,
        range: Range<usize>,
        kv: &BTreeMap<usize, LayerKv>,
    ) -> Result<(BTreeMap<usize, LayerKv>, LayerMap), GpuError> {
        let (gpu, config) = (&**self.gpu, self.wanted.config);
        let mut caches = BTreeMap::new();
        let mut layers = LayerMap::new();
        for layer in range {
            let cache = match kv.get(&layer) {
                Some(cache) => cache.clone(),
                None => LayerKv::new(gpu, config, self.kv_size(layer))?,
            };
            caches.insert(layer, cache.clone());
            let shards = self.shards(ShardOwner::Layer(layer));
            layers.insert(layer, Arc::new(LayerWeights::new(gpu, config, &shards, cache)?));
        }
        Ok((caches, layers))
    }
}

impl GpuShard {
    /// Allocates memory for more layers, or for other ends, and drops the plan without them.
    pub(super) fn extend(&mut self, room: &Capacity<'_>) -> Result<(), GpuError> {
        let wanted = room.wanted;
        let reserved = room.reserve_more(self)?;
        let ends = (wanted.ends_with(&wanted.layers, self.ends.held()) != self.ends.held())
            .then(|| room.end_weights(&wanted.layers))
            .transpose()?;
        let new = wanted.layers.clone().filter(|layer| !self.layers.contains_key(layer));
        let mut layers = LayerMap::clone(&self.layers);
        let mut kv = self.kv.clone();
        for layer in new {
            let (cache, weights) = room.layers(layer..layer + 1, &self.kv)?;
            kv.extend(cache);
            layers.extend(weights);
        }
        if let Some(ends) = ends {
            let most = room.most(&wanted.layers, self.most);
            let size = ScratchSize { rows: self.scratch.rows, ..most };
            self.scratch = Arc::new(self.scratch.grown(&self.gpu, size.of(wanted.config))?);
            self.most = most;
            self.ends = Arc::new(ends);
            self.there = 0;
        }
        self.kv = kv;
        self.reserved = reserved;
        self.layers = Arc::new(layers);
        self.drop_plan();
        Ok(())
    }
}

/// How a GPU stores keys and values of a format.
pub(super) const fn kv_layout(format: KvFormat) -> KvLayout {
    match format {
        KvFormat::F16 => KvLayout::F16,
        KvFormat::F32 => KvLayout::F32,
        KvFormat::Bf16 => KvLayout::BF16,
        KvFormat::Q8_0 => KvLayout::Q8_0,
        KvFormat::Q4_0 => KvLayout::Q4_0,
        KvFormat::Kivi2 => KvLayout::KIVI2,
    }
}

/// Attention of a layer without a window.
fn attention_shape(wanted: &Assignment<'_>) -> AttentionShape {
    let config = wanted.config;
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        key: config.key_length,
        value: config.value_length,
        scale: config.attention_scale,
        cap: config.attention_cap.unwrap_or(0.0),
        window: 0,
        tables: 0,
        recent: None,
        kv: kv_layout(wanted.kv_format),
    }
}

/// Bytes of tensors on a device. If neighbours share buffers, they take some bytes less.
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

/// Number of experts whose scores, or whose pair counts, fit workgroup memory.
const MOST_EXPERTS: usize = 1024;

/// Checks the shapes that kernels support: pairs of neighbouring elements are stored together, gates in vectors of
/// four.
fn check(config: &ModelConfig, attention: &AttentionShape) -> Result<(), GpuError> {
    let even = [("key length", config.key_length), ("value length", config.value_length)];
    if let Some((what, value)) = even.into_iter().find(|(_, value)| !value.is_multiple_of(2)) {
        return Err(GpuError::Shape { what, value, allowed: "even numbers" });
    }
    if config.kv_classes.len() > KV_CLASSES {
        let (what, value) = ("number of classes of layers in the KV cache", config.kv_classes.len());
        return Err(GpuError::Shape { what, value, allowed: "up to 4" });
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
