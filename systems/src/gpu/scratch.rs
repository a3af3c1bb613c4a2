//! Buffers that a wave's kernels write on one GPU, sized once for the largest wave.

use weft_components::{ModelConfig, WaveLimits};
use weft_gpu::sampling::{Adjustment, SampleRow, Sampling};
use weft_gpu::{ActFormat, Gpu, GpuError, wave_bytes, wgpu};

/// Rows, and columns, of a tile of cooperative matrices, which is written whole.
pub(super) const COOPERATIVE_TILE: usize = 128;

/// Rows of a buffer that is read and written in tiles.
fn tiled(gpu: &Gpu, rows: usize) -> usize {
    if gpu.capabilities.cooperative { rows.next_multiple_of(COOPERATIVE_TILE) } else { rows }
}

/// Most rows whose products go over the weights once for all of them; more make tiles.
pub(super) const FEW: usize = 8;

/// Activations of up to a wave's rows, in each kind that a product of the model reads.
pub(super) struct Activations {
    pub(super) width: usize,
    floats: wgpu::Buffer,
    halves: wgpu::Buffer,
    codes: wgpu::Buffer,
    scales: wgpu::Buffer,
}

impl Activations {
    fn new(gpu: &Gpu, what: &str, rows: usize, width: usize) -> Result<Self, GpuError> {
        // Tiles of rows are read whole.
        let tiled = tiled(gpu, rows);
        let half_rows = if gpu.capabilities.cooperative { tiled } else { 1 };
        let bytes = |rows: usize, each: usize| (rows * width * each) as u64;
        Ok(Self {
            width,
            floats: gpu.storage(what, bytes(tiled.max(FEW), 4))?,
            halves: gpu.storage(what, bytes(half_rows, 2))?,
            codes: gpu.storage(what, bytes(FEW, 1))?,
            scales: gpu.storage(what, bytes(FEW, 8) / 32)?,
        })
    }

    /// The buffers of a kind, first the numbers, then what goes with them.
    pub(super) fn buffers(&self, kind: ActFormat) -> [wgpu::Buffer; 2] {
        match kind {
            ActFormat::F32 => [self.floats.clone(), self.scales.clone()],
            ActFormat::F16 => [self.halves.clone(), self.scales.clone()],
            ActFormat::Q8 => [self.codes.clone(), self.scales.clone()],
        }
    }
}

/// The buffers.
pub(super) struct Scratch {
    /// Rows that fit.
    pub(super) rows: usize,
    pub(super) wave: wgpu::Buffer,
    pub(super) tables: wgpu::Buffer,
    pub(super) table_words: usize,
    /// `[rows, embedding]`.
    pub(super) hidden: wgpu::Buffer,
    /// `[rows, queries + keys + values]`.
    pub(super) qkv: wgpu::Buffer,
    /// `[rows, heads * key_length]`, turned.
    pub(super) queries: wgpu::Buffer,
    /// Inputs of the projections from the hidden state and from attention.
    pub(super) inner: Activations,
    /// Input of the down projection.
    pub(super) gated: Activations,
    /// `[rows, 2 * feed_forward]`.
    pub(super) gate_up: wgpu::Buffer,
    pub(super) partials: wgpu::Buffer,
    /// `[logit rows, vocabulary]`.
    pub(super) logits: wgpu::Buffer,
    pub(super) sample_rows: wgpu::Buffer,
    pub(super) adjustments: wgpu::Buffer,
    /// Adjustments that fit.
    pub(super) most_adjustments: usize,
    /// `[logit rows]`, tokens chosen.
    pub(super) ids: wgpu::Buffer,
    pub(super) sample_partials: wgpu::Buffer,
    /// Tokens chosen, by the place in the KV cache of the row they were chosen from.
    pub(super) sampled: wgpu::Buffer,
    /// Cosines and sines.
    pub(super) angles: wgpu::Buffer,
}

/// Rows of logits that a device computes at a time: as many as fit a binding, within reason.
pub(super) fn logit_rows(gpu: &Gpu, config: &ModelConfig, limits: &WaveLimits) -> usize {
    const MOST: usize = 256;
    let fit = gpu.capabilities.max_binding / (4 * config.vocabulary as u64).max(1);
    limits.logit_rows.min(MOST).min(usize::try_from(fit).unwrap_or(MOST)).max(1)
}

impl Scratch {
    /// Takes memory for waves of up to `rows` and a KV cache of `tokens`.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        rows: usize,
        logit_rows: usize,
        tokens: usize,
        partials: u64,
    ) -> Result<Self, GpuError> {
        let floats = |what, rows: usize, width: usize| gpu.storage(what, 4 * (rows * width) as u64);
        let (queries, values) = (config.heads * config.key_length, config.heads * config.value_length);
        let qkv = queries + config.kv_heads * (config.key_length + config.value_length);
        let tall = tiled(gpu, rows);
        let table_words = (tokens / weft_platform::PAGE).max(1) * 2;
        Ok(Self {
            rows,
            wave: gpu.storage("wave", wave_bytes(rows))?,
            tables: gpu.storage("block_tables", 4 * table_words as u64)?,
            table_words,
            hidden: floats("hidden", tall, config.embedding)?,
            qkv: floats("qkv", tall.max(FEW), qkv)?,
            queries: floats("queries", rows, queries)?,
            inner: Activations::new(gpu, "activations", rows.max(logit_rows), config.embedding.max(values))?,
            gated: Activations::new(gpu, "gated", rows, config.feed_forward)?,
            gate_up: floats("gate_up", tall.max(FEW), 2 * config.feed_forward)?,
            partials: gpu.storage("attention_partials", partials)?,
            logits: floats("logits", tiled(gpu, logit_rows).max(FEW), config.vocabulary)?,
            sample_rows: gpu.storage("sample_rows", (size_of::<SampleRow>() * logit_rows) as u64)?,
            adjustments: gpu
                .storage("adjustments", (size_of::<Adjustment>() * ADJUSTMENTS * logit_rows) as u64)?,
            most_adjustments: ADJUSTMENTS * logit_rows,
            ids: gpu.storage("ids", 4 * logit_rows as u64)?,
            sample_partials: gpu
                .storage("sample_partials", sampling(config).partial_bytes(logit_rows as u32))?,
            sampled: floats("sampled", tokens, 1)?,
            angles: gpu.storage(
                "angles",
                8 * (angle_rows(tokens.min(config.context)) * config.rope.dimensions / 2) as u64,
            )?,
        })
    }
}

/// Tokens of a row with a bias or a penalty that there is room for, on the average of a wave.
const ADJUSTMENTS: usize = 512;

/// The kernels of sampling for a model.
pub(super) fn sampling(config: &ModelConfig) -> Sampling {
    Sampling { vocabulary: config.vocabulary as u32 }
}

/// Rows of the table of angles for positions up to `positions`: 256 lower parts, then the upper ones.
pub(super) fn angle_rows(positions: usize) -> usize {
    256 + positions.div_ceil(256)
}
