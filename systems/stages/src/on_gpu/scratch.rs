//! Scratch buffers: what a wave's kernels write on one GPU.
//!
//! They are allocated for waves of some rows. When a wave has more, larger ones are allocated (see `grow`), up to the
//! largest wave that the model allows. Data that outlives a wave moves to the new buffers: the angles of rotary
//! embedding, the chosen tokens, the block tables.

use weft_components::{ExpertConfig, ModelConfig, RopeConfig, WaveLimits};
use weft_gpu::sampling::{Adjustment, SampleRow, Sampling};
use weft_gpu::{ActFormat, BLOCK, Capabilities, Gpu, GpuError, storage_bytes, wave_bytes, wgpu};

/// Rows, and columns, of a tile of cooperative matrices. A tile is always written whole.
pub(super) const COOPERATIVE_TILE: usize = 128;

/// Rows of a buffer that is read and written in tiles.
fn tiled(caps: &Capabilities, rows: usize) -> usize {
    if caps.cooperative { rows.next_multiple_of(COOPERATIVE_TILE) } else { rows }
}

/// Largest number of rows computed in bands of cooperative matrices, whose results are written row by row. More rows
/// are computed in tiles.
pub(super) const BANDED: usize = 64;

/// Rows of a buffer that products of up to `rows` rows write.
fn written(caps: &Capabilities, rows: usize) -> usize {
    if rows > BANDED { tiled(caps, rows) } else { rows }
}

/// Words that the tokens of `rows` rows take in a staging buffer, before the logits.
pub(super) const fn id_words(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// Rows that buffers are made for at first: as many as a tile of cooperative matrices has.
pub(super) const FIRST_ROWS: usize = 128;

/// Largest number of rows whose products read the weights once for all of them. More rows are computed in tiles.
pub(super) const FEW: usize = 8;

/// Activations of up to a wave's rows, in each kind that a product of the model reads.
pub(super) struct Activations<B = wgpu::Buffer> {
    floats: B,
    halves: B,
    codes: B,
    scales: B,
}

impl<B> Activations<B> {
    fn new(
        storage: &mut impl FnMut(&str, u64) -> Result<B, GpuError>,
        caps: &Capabilities,
        what: &str,
        rows: usize,
        width: usize,
    ) -> Result<Self, GpuError> {
        // Tiles of rows are read whole.
        let tiled = tiled(caps, rows);
        let half_rows = if caps.cooperative { tiled } else { 1 };
        let bytes = |rows: usize, each: usize| (rows * width * each) as u64;
        Ok(Self {
            floats: storage(what, bytes(tiled.max(FEW), 4))?,
            halves: storage(what, bytes(half_rows, 2))?,
            codes: storage(what, bytes(FEW, 1))?,
            scales: storage(what, bytes(FEW, 8) / 32)?,
        })
    }
}

impl Activations {
    /// The buffers of a kind: numbers, then their scales.
    pub(super) fn buffers(&self, kind: ActFormat) -> [wgpu::Buffer; 2] {
        match kind {
            ActFormat::F32 => [self.floats.clone(), self.scales.clone()],
            ActFormat::F16 => [self.halves.clone(), self.scales.clone()],
            ActFormat::Q8 => [self.codes.clone(), self.scales.clone()],
        }
    }
}

/// Pairs of rows and experts that share one read of an expert's weights, for waves of many rows.
pub(super) const PAIR_GROUP: usize = 8;

/// Largest number of tiles that the pairs of `rows` rows are grouped into: whole tiles, and one partial tile for each
/// expert.
pub(super) fn pair_tiles(experts: &ExpertConfig, rows: usize) -> usize {
    let pairs = rows * experts.used;
    pairs / PAIR_GROUP + experts.count.min(pairs)
}

/// Buffers of experts. There are `rows * used` pairs.
pub(super) struct ExpertScratch<B = wgpu::Buffer> {
    /// `[rows, experts]`, and one more column if a shared expert is weighted.
    pub(super) scores: B,
    /// `[pairs]` of an expert and a weight.
    pub(super) routes: B,
    /// Tiles of pairs, then pairs by expert.
    pub(super) groups: B,
    /// Input of the down projection, `[pairs, feed_forward]`.
    pub(super) gated: Activations<B>,
    /// Outputs of the experts, `[pairs, embedding]`.
    pub(super) rows: B,
}

impl<B> ExpertScratch<B> {
    fn new(
        storage: &mut impl FnMut(&str, u64) -> Result<B, GpuError>,
        caps: &Capabilities,
        experts: &ExpertConfig,
        embedding: usize,
        rows: usize,
    ) -> Result<Self, GpuError> {
        let pairs = rows * experts.used;
        let width = experts.feed_forward.next_multiple_of(BLOCK);
        let few = FEW * experts.used;
        let bytes = |count: usize, each: usize| (count * each) as u64;
        Ok(Self {
            scores: storage("expert_scores", bytes(tiled(caps, rows).max(FEW) * (experts.count + 1), 4))?,
            routes: storage("expert_routes", bytes(pairs, 8))?,
            groups: storage("expert_groups", bytes(2 * pair_tiles(experts, rows) + pairs, 4))?,
            gated: Activations {
                floats: storage("expert_gated", bytes(pairs * width, 4))?,
                halves: storage("expert_gated", 0)?,
                codes: storage("expert_gated", bytes(few * width, 1))?,
                scales: storage("expert_gated", bytes(few * width, 8) / BLOCK as u64)?,
            },
            rows: storage("expert_rows", bytes(pairs * embedding, 4))?,
        })
    }
}

/// Largest number of rows of a wave whose pairs with experts fit a binding and a grid.
pub(super) fn expert_rows(caps: &Capabilities, config: &ModelConfig, rows: usize) -> usize {
    /// Largest number of workgroups along a dimension.
    const GRID: usize = 65_535;
    let Some(experts) = &config.experts else { return rows };
    let width = config.embedding.max(experts.feed_forward.next_multiple_of(BLOCK));
    let limit = usize::try_from(caps.max_binding.min(caps.max_buffer)).unwrap_or(usize::MAX);
    let pairs = (limit / (4 * width)).min(GRID.saturating_sub(experts.count));
    rows.min(pairs / experts.used.max(1)).max(1)
}

/// The scratch buffers of one model on one GPU.
pub(super) struct Scratch<B = wgpu::Buffer> {
    /// Rows that fit.
    pub(super) rows: usize,
    pub(super) wave: B,
    pub(super) tables: B,
    pub(super) table_words: usize,
    /// `[rows, embedding]`.
    pub(super) hidden: B,
    /// `[rows, queries + keys + values]`. Also a block's output, `[rows, embedding]`, and attention's output before a
    /// norm, `[rows, heads * value_length]`, if kernels of their own read those.
    pub(super) qkv: B,
    /// `[rows, heads * key_length]`, after rotary embedding.
    pub(super) queries: B,
    /// Inputs of the projections from the hidden state and from attention.
    pub(super) inner: Activations<B>,
    /// Input of the down projection.
    pub(super) gated: Activations<B>,
    /// `[rows, 2 * feed_forward]`, of the widest network that every row uses.
    pub(super) gate_up: B,
    pub(super) partials: B,
    /// `[logit rows, vocabulary]`.
    pub(super) logits: B,
    pub(super) sample_rows: B,
    pub(super) adjustments: B,
    /// Number of adjustments that fit.
    pub(super) most_adjustments: usize,
    /// `[logit rows]`, the chosen tokens.
    pub(super) ids: B,
    pub(super) sample_partials: B,
    /// Chosen tokens, indexed by the place in the KV cache of the row they were chosen from.
    pub(super) sampled: B,
    /// Cosines and sines, of each of the model's rotary embeddings.
    pub(super) angles: Vec<B>,
    /// Buffers of experts, if the model has any.
    pub(super) experts: Option<ExpertScratch<B>>,
}

/// Largest number of rows of logits that a device computes at a time.
pub(super) const MOST_LOGIT_ROWS: usize = 256;

/// Rows of logits that a device computes at a time: as many as fit a binding, and a readback buffer after their tokens,
/// but at most [`MOST_LOGIT_ROWS`].
pub(super) fn logit_rows(gpu: &Gpu, config: &ModelConfig, limits: &WaveLimits) -> usize {
    let caps = &gpu.capabilities;
    let room = caps.max_binding.min(caps.max_buffer.saturating_sub(4 * id_words(MOST_LOGIT_ROWS) as u64));
    let fit = room / (4 * config.vocabulary as u64).max(1);
    // If a whole tile of cooperative matrices does not fit, no wave is computed in tiles.
    let tile = COOPERATIVE_TILE as u64;
    let fit = match fit / tile {
        0 if caps.cooperative => fit.min(BANDED as u64),
        tiles if caps.cooperative => tiles * tile,
        _ => fit,
    };
    // A row of logits is one of the wave's rows.
    limits
        .logit_rows
        .min(limits.rows)
        .min(MOST_LOGIT_ROWS)
        .min(usize::try_from(fit).unwrap_or(MOST_LOGIT_ROWS))
        .max(1)
}

/// The sizes that the buffers are made for, and the model's configuration.
#[derive(Clone, Copy)]
pub(super) struct ScratchShape<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) size: ScratchSize,
}

/// Capacity of a wave's buffers.
#[derive(Clone, Copy)]
pub(super) struct ScratchSize {
    /// Rows of a wave.
    pub(super) rows: usize,
    /// Rows of logits, at most.
    pub(super) logit_rows: usize,
    /// Tokens of the KV cache.
    pub(super) tokens: usize,
    /// Bytes of the partial sums of split contexts.
    pub(super) partials: u64,
}

impl ScratchSize {
    /// What buffers are made for at first, where `self` is what they may grow to.
    pub(super) fn first(self) -> Self {
        Self { rows: self.rows.min(FIRST_ROWS), ..self }
    }

    /// What buffers for `rows` rows are made for, where those that exist hold `held` and `self` is what they may grow to.
    pub(super) fn next(self, held: usize, rows: usize) -> Self {
        let rows = rows.max(2 * held).next_power_of_two().min(self.rows);
        Self { rows, ..self }
    }

    /// Combines the sizes with the model's configuration.
    pub(super) fn of(self, config: &ModelConfig) -> ScratchShape<'_> {
        ScratchShape { config, size: self }
    }
}

impl Scratch {
    /// Allocates the buffers.
    pub(super) fn new(gpu: &Gpu, shape: ScratchShape<'_>) -> Result<Self, GpuError> {
        Self::make(&gpu.capabilities, shape, None, |what, bytes| gpu.storage(what, bytes))
    }

    /// Allocates the buffers for waves of more rows. Buffers that outlive a wave are shared with these.
    pub(super) fn grown(&self, gpu: &Gpu, shape: ScratchShape<'_>) -> Result<Self, GpuError> {
        Self::make(&gpu.capabilities, shape, Some(self), |what, bytes| gpu.storage(what, bytes))
    }
}

impl Scratch<()> {
    /// Bytes of all buffers together.
    pub(super) fn bytes(caps: &Capabilities, shape: ScratchShape<'_>) -> Result<u64, GpuError> {
        let mut sum = 0;
        Self::make(caps, shape, None, |_, bytes| {
            sum += storage_bytes(bytes);
            Ok(())
        })?;
        Ok(sum)
    }
}

impl<B: Clone> Scratch<B> {
    fn make(
        caps: &Capabilities,
        shape: ScratchShape<'_>,
        before: Option<&Self>,
        mut storage: impl FnMut(&str, u64) -> Result<B, GpuError>,
    ) -> Result<Self, GpuError> {
        let ScratchShape { config, size: ScratchSize { rows, logit_rows, tokens, partials } } = shape;
        // A row of logits is one of the wave's rows.
        let logit_rows = logit_rows.min(rows);
        let floats = |rows: usize, width: usize| 4 * (rows * width) as u64;
        let (queries, values) = (config.heads * config.key_length, config.heads * config.value_length);
        let qkv = queries + config.kv_heads * (config.key_length + config.value_length);
        let tall = tiled(caps, rows);
        let table_words = (tokens / weft_platform::PAGE).max(1) * 2;
        let (inner_rows, inner_width) = (rows.max(logit_rows), config.embedding.max(values));
        let inner = config.feed_forward.max(config.experts.map_or(0, |experts| experts.shared_feed_forward));
        let angles = |rope: &RopeConfig| angle_rows(tokens.min(config.context)) * rope.dimensions / 2;
        let lasting = match before {
            Some(Self { angles, tables, sampled, .. }) => (angles.clone(), tables.clone(), sampled.clone()),
            None => (
                config
                    .ropes
                    .iter()
                    .map(|rope| storage("angles", 8 * angles(rope) as u64))
                    .collect::<Result<_, _>>()?,
                storage("block_tables", 4 * (table_words * config.kv_classes.len()) as u64)?,
                storage("sampled", floats(tokens, 1))?,
            ),
        };
        let (angles, tables, sampled) = lasting;
        let experts = config.experts.as_ref();
        let experts = experts
            .map(|experts| ExpertScratch::new(&mut storage, caps, experts, config.embedding, rows))
            .transpose()?;
        Ok(Self {
            rows,
            experts,
            wave: storage("wave", wave_bytes(rows))?,
            tables,
            table_words,
            hidden: storage("hidden", floats(tall.max(FEW), config.embedding))?,
            qkv: storage("qkv", floats(tall.max(FEW), qkv.max(values).max(config.embedding)))?,
            queries: storage("queries", floats(rows, queries))?,
            inner: Activations::new(&mut storage, caps, "activations", inner_rows, inner_width)?,
            gated: Activations::new(&mut storage, caps, "gated", rows, inner.next_multiple_of(BLOCK))?,
            gate_up: storage("gate_up", floats(tall.max(FEW), 2 * inner))?,
            partials: storage("attention_partials", partials)?,
            logits: storage("logits", floats(written(caps, logit_rows).max(FEW), config.vocabulary))?,
            sample_rows: storage("sample_rows", (size_of::<SampleRow>() * logit_rows) as u64)?,
            adjustments: storage("adjustments", (size_of::<Adjustment>() * ADJUSTMENTS * logit_rows) as u64)?,
            most_adjustments: ADJUSTMENTS * logit_rows,
            ids: storage("ids", 4 * logit_rows as u64)?,
            sample_partials: storage("sample_partials", sampling(config).partial_bytes(logit_rows as u32))?,
            sampled,
            angles,
        })
    }
}

/// Tokens with a bias or a penalty that fit, for each row on the average of a wave.
const ADJUSTMENTS: usize = 512;

/// The kernels of sampling for a model.
pub(super) fn sampling(config: &ModelConfig) -> Sampling {
    Sampling { vocabulary: config.vocabulary as u32 }
}

/// Rows of the table of angles for positions up to `positions`: 256 lower ones, then the upper ones.
pub(super) fn angle_rows(positions: usize) -> usize {
    256 + positions.div_ceil(256)
}
