//! The GPU shard of a model: the layers, buffers and plan that one GPU holds, and how a wave is uploaded to it.

use super::adapters::Listed;
use super::in_flight::{InFlight, Readback, Staging, return_staging, staging};
use super::kernel_plan::Plan;
use super::layer_weights::{EndWeights, LayerKv, LayerMap};
use super::logits::Processing;
use super::plan_builder::{Grown, Pending, PendingPlan, PlanBuilder};
use super::reserved::Reserved;
use super::scratch::{Scratch, ScratchSize, id_words};
use super::shape::{Attend, WaveShape, shape_of};
use super::submit_budget::SubmitBudget;
use super::upload::Upload;
use bevy_ecs::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use weft_components::{AtLayer, ModelConfig, Place, TensorRole, Wave, WaveSpan};
use weft_gpu::sampling::SampleBatch;
use weft_gpu::{AttentionKernels, AttentionShape, Commands, Gpu, GpuError, TILE, WaveData, wgpu};
use weft_platform::{PAGE, Signal};

/// The GPU shard of a model: weights, KV caches, buffers, kernel plan and in-flight steps of one GPU. Owned by the
/// model's [`GpuShards`].
pub struct GpuShard {
    /// The GPU's place.
    pub place: Place,
    /// The GPU's index among the engine's GPUs, from 0, for reports.
    pub number: usize,
    /// The GPU.
    pub gpu: Arc<Gpu>,
    pub(super) layers: Arc<LayerMap>,
    /// KV caches of the layers placed on this GPU, including layers whose weights are evicted.
    pub(super) kv: BTreeMap<usize, LayerKv>,
    pub(super) ends: Arc<EndWeights>,
    pub(super) scratch: Arc<Scratch>,
    /// Decides how contexts are split. Its kernels are in the plan.
    attention: AttentionKernels,
    pub(super) plan: PendingPlan,
    /// True once the angles of rotary embedding have been written.
    pub(super) angles: bool,
    /// Commands recorded and not yet submitted.
    pub(super) commands: Commands,
    /// How much of a wave goes into one submit, learned from the device's speed.
    pub(super) submit_budget: SubmitBudget,
    /// Rows of the wave on the device and when it arrived. `None` if the device was busy with an earlier wave then.
    entered: Option<(usize, web_time::Instant)>,
    /// The wave whose rows the scratch buffers hold.
    pub(super) occupied: Option<Entity>,
    pub(super) shape: WaveShape,
    /// What each row of logits asks of sampling.
    pub(super) batch: SampleBatch,
    /// For each span, true if the device chooses its token.
    pub(super) chosen: Vec<bool>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) staging: Vec<Staging>,
    /// Empty span lists, kept for their memory: the next waves whose rows are sent use them again.
    spare: Vec<Vec<WaveSpan>>,
    /// Submits whose results have been read back.
    pub(super) good_steps: u32,
    /// True once the device has failed. Nothing more is recorded for it.
    pub(super) failed: bool,
    /// Tensors of the model itself that are known to have arrived, one bit for each role.
    pub(super) there: u64,
    words: Vec<u32>,
    rows: RowWords,
    uploads: Uploads,
    /// Builds a new plan.
    pub(super) plan_builder: PlanBuilder,
    /// The size that the buffers may grow to.
    pub(super) most: ScratchSize,
    /// Memory that the shard counts with against the GPU's budget.
    pub(super) reserved: Reserved,
    /// Rows of the largest wave that did not fit the buffers.
    pub(super) wanted_rows: usize,
    /// Larger buffers and their plan, while they are being made.
    pub(super) growing: Option<Pending<Grown>>,
    /// True if the device had no memory for larger buffers.
    pub(super) out_of_memory: bool,
    /// The model's adapters on this GPU, if it has any.
    adapted: Option<AdaptedPart>,
    /// True if the model has other adapters than `adapted`.
    stale: bool,
    /// True if rows of the wave on the device use adapters.
    adapting: bool,
    used: Vec<[u32; 2]>,
    /// Token masks and logits processors, which change logits before tokens are chosen.
    pub(super) processing: Processing,
}

/// A model's adapters on a GPU.
struct AdaptedPart {
    list: Vec<Entity>,
    plan: PendingPlan,
}

/// Rows of one session from which attention in tiles of rows is faster.
const TILED_ROWS: usize = 8;
/// Rows whose contexts can all be split into the largest number of splits. With more rows, each context gets fewer
/// splits.
pub(super) const SPLIT_ROWS: usize = 16;
/// Workgroups that keep a large GPU busy.
const WORKGROUPS: usize = 396;

/// Arrays with one entry for each row, kept for their memory.
#[derive(Default)]
struct RowWords {
    kv: Vec<u32>,
    tables: Vec<u32>,
    tiles: Vec<u32>,
    seen: Vec<u32>,
}

/// Buffers that the host writes for each wave, with their last written words.
#[derive(Default)]
struct Uploads {
    wave: Upload,
    tables: Upload,
    sample_rows: Upload,
    adjustments: Upload,
}

/// A model's GPU shards. A component of the model.
#[derive(Component, Default)]
pub struct GpuShards(pub Vec<GpuShard>);

impl GpuShards {
    /// The shard on a GPU.
    pub fn on(&mut self, place: Place) -> Option<&mut GpuShard> {
        self.0.iter_mut().find(|gpu_shard| gpu_shard.place == place)
    }
}

impl GpuShards {
    /// Waits until the oldest in-flight step is done, for at most `longest`. Returns `false` if there is none.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&self, longest: core::time::Duration) -> bool {
        let Some((gpu_shard, in_flight_step)) =
            self.0.iter().find_map(|gpu_shard| Some((gpu_shard, gpu_shard.in_flight.front()?)))
        else {
            return false;
        };
        let submit = wgpu::PollType::Wait {
            submission_index: Some(in_flight_step.index.clone()),
            timeout: Some(longest),
        };
        // If the device is lost, or takes longer, the next tick finds out.
        let _ = gpu_shard.gpu.device.poll(submit);
        true
    }
}

impl GpuShard {
    pub(super) fn new(
        (place, number): (Place, usize),
        gpu: Arc<Gpu>,
        (layers, kv): (LayerMap, BTreeMap<usize, LayerKv>),
        ends: EndWeights,
        scratch: (Scratch, ScratchSize, Reserved),
        attention: (AttentionShape, AttentionKernels),
        config: &ModelConfig,
        wake: &Arc<Signal>,
    ) -> Self {
        let (scratch, most, reserved) = scratch;
        let (layers, ends, scratch) = (Arc::new(layers), Arc::new(ends), Arc::new(scratch));
        let (shape, attention) = attention;
        let plan_builder = PlanBuilder { config: config.clone(), attention: shape, wake: Arc::clone(wake) };
        Self {
            place,
            number,
            gpu,
            layers,
            kv,
            ends,
            scratch,
            attention,
            plan: PendingPlan::Due,
            angles: false,
            commands: Commands::default(),
            submit_budget: SubmitBudget::default(),
            entered: None,
            occupied: None,
            shape: WaveShape::default(),
            batch: SampleBatch::default(),
            chosen: Vec::new(),
            in_flight: VecDeque::new(),
            staging: Vec::new(),
            spare: Vec::new(),
            good_steps: 0,
            failed: false,
            there: 0,
            words: Vec::new(),
            rows: RowWords::default(),
            uploads: Uploads::default(),
            plan_builder,
            most,
            reserved,
            wanted_rows: 0,
            growing: None,
            out_of_memory: false,
            adapted: None,
            stale: false,
            adapting: false,
            used: Vec::new(),
            processing: Processing::default(),
        }
    }

    /// Returns true if the shard holds exactly these adapters. If not, waves that use adapters do not enter until it
    /// does.
    pub(super) fn holds_adapters(&mut self, wanted: &[Entity]) -> bool {
        let held = self.adapted.as_ref().map_or(&[][..], |adapted| &adapted.list);
        self.stale = held != wanted;
        !self.stale
    }

    /// Drops the weights of a layer; with `cache` also its KV cache, for a layer that is computed elsewhere from now
    /// on.
    pub(super) fn drop_layer(&mut self, layer: usize, cache: bool) {
        let mut layers = LayerMap::clone(&self.layers);
        layers.remove(&layer);
        self.layers = Arc::new(layers);
        self.reserved.drop_layer(layer, cache);
        if cache {
            self.kv.remove(&layer);
        }
        self.drop_plan();
    }

    /// Drops the plan, because the buffers it binds have changed. The next [`poll_plan`](Self::poll_plan) starts to build
    /// another. Waves wait for it.
    pub(super) fn drop_plan(&mut self) {
        self.plan = PendingPlan::Due;
        self.growing = None;
        self.uploads = Uploads::default();
        self.adapted = None;
        self.stale = true;
    }

    /// Abandons a wave that is on the device. Commands already recorded for it are still submitted: their results are
    /// ignored.
    pub(super) fn abandon(&mut self, wave: Entity) {
        // A hidden state on its way to the wave must not reach the rows that the wave carries next.
        for step in &mut self.in_flight {
            if let Readback::Hidden { wave: to } = &mut step.readback
                && *to == wave
            {
                *to = Entity::PLACEHOLDER;
            }
        }
        if self.occupied == Some(wave) {
            self.occupied = None;
            self.entered = None;
            self.commands.submit(&self.gpu);
        }
    }

    /// Starts to read back the hidden state of a wave, unless a readback is already in flight.
    pub(super) fn send_hidden(&mut self, entity: Entity, wave: &Wave, config: &ModelConfig) {
        if self.occupied == Some(entity) {
            let bytes = 4 * (wave.rows() * config.embedding) as u64;
            let from = self.scratch.hidden.clone();
            self.send(Readback::Hidden { wave: entity }, Vec::new(), &[(&from, bytes)]);
        }
    }

    /// Replaces the model's adapters. Does nothing while a wave is on the device.
    pub(super) fn take_adapters(&mut self, list: Vec<Listed>) {
        if self.occupied.is_some() {
            return;
        }
        self.stale = false;
        self.adapted = (!list.is_empty()).then(|| AdaptedPart {
            list: list.iter().map(|(adapter, _)| *adapter).collect(),
            plan: self.plan_builder.start(&self.gpu, &self.layers, &self.ends, &self.scratch, list),
        });
    }

    /// Replaces the buffers with larger ones and takes the plan bound to them. Plans of adapters are built again.
    pub(super) fn take_grown(&mut self, scratch: Arc<Scratch>, plan: Plan) {
        self.scratch = scratch;
        self.plan = PendingPlan::Ready(Box::new(plan));
        // Nothing has been uploaded to the new buffers yet.
        self.uploads = Uploads::default();
        self.adapted = None;
    }

    /// The plan for the wave on the device, the wave's shape, and the commands to record to.
    fn recording(&mut self) -> Option<(&Plan, &WaveShape, &mut Commands)> {
        let slot = match &self.adapted {
            Some(adapted) if self.adapting => &adapted.plan,
            _ => &self.plan,
        };
        match slot {
            PendingPlan::Ready(plan) => Some((plan, &self.shape, &mut self.commands)),
            _ => None,
        }
    }

    /// Returns true if the plan that a wave's rows need is ready.
    fn may_take(&self, wave: &Wave) -> bool {
        wave.adapters.is_empty()
            || (!self.stale
                && self.adapted.as_ref().is_none_or(|adapted| matches!(adapted.plan, PendingPlan::Ready(_))))
    }

    /// The plan, once it is ready and the angles it reads are written.
    pub(super) fn plan(&self) -> Option<&Plan> {
        match &self.plan {
            PendingPlan::Ready(plan) if self.angles => Some(plan),
            _ => None,
        }
    }

    /// Takes finished plans from their threads, and starts those that are due. Never waits.
    pub(super) fn poll_plan(&mut self) -> Result<(), GpuError> {
        if matches!(self.plan, PendingPlan::Due) {
            self.plan =
                self.plan_builder.start(&self.gpu, &self.layers, &self.ends, &self.scratch, Vec::new());
        }
        self.plan.poll(&self.gpu)?;
        match &mut self.adapted {
            Some(adapted) => adapted.plan.poll(&self.gpu),
            None => Ok(()),
        }
    }

    /// Uploads a wave's rows, and its hidden state if the host has it. Returns `false` if the device cannot take the
    /// wave yet.
    pub(crate) fn enter(&mut self, entity: Entity, wave: &mut Wave, config: &ModelConfig) -> bool {
        if self.failed || self.plan().is_none() || !self.may_take(wave) {
            return false;
        }
        if wave.tables.len() > self.scratch.table_words {
            // Admission keeps to `WaveLimits::pages`, so this is a bug of the engine. The context must not be truncated
            // silently.
            let (pages, limit) = (wave.tables.len(), self.scratch.table_words);
            self.gpu.give_up(&GpuError::BlockTables { pages, limit });
            return false;
        }
        match self.occupied {
            Some(found) if found == entity => return true,
            Some(_) => return false,
            None => {}
        }
        if !self.holds(wave.rows()) {
            return false;
        }
        self.write_wave(wave, config.causal);
        self.entered = self.in_flight.is_empty().then(|| (wave.rows(), web_time::Instant::now()));
        if !wave.hidden.is_empty() && wave.at != AtLayer::Embed {
            let bytes = bytemuck::cast_slice(&wave.hidden[..wave.rows() * config.embedding]);
            self.gpu.write(&self.scratch.hidden, 0, bytes);
        }
        wave.place = Some(self.place);
        self.occupied = Some(entity);
        true
    }

    /// Uploads what rows of logits ask of sampling, and records the choice of their tokens.
    pub(crate) fn record_sample(&mut self) {
        let PendingPlan::Ready(plan) = &self.plan else { return };
        let Self { gpu, scratch, batch, uploads, .. } = self;
        uploads.sample_rows.write(gpu, &scratch.sample_rows, bytemuck::cast_slice(batch.rows()));
        uploads.adjustments.write(gpu, &scratch.adjustments, bytemuck::cast_slice(batch.adjustments()));
        plan.record_sample(&self.batch, &self.shape, &mut self.commands);
    }

    /// The batch to fill, the flags that say who chooses each span's token, and how many adjustments fit.
    pub(crate) fn sampling(&mut self) -> (&mut SampleBatch, &mut Vec<bool>, usize) {
        (&mut self.batch, &mut self.chosen, self.scratch.most_adjustments)
    }

    /// Returns true if a tensor of the model itself is known to have arrived.
    pub(crate) fn has(&self, role: TensorRole) -> bool {
        self.there & (1 << role as usize) != 0
    }

    /// Notes that a tensor of the model itself has arrived.
    pub(crate) fn arrived(&mut self, role: TensorRole) {
        self.there |= 1 << role as usize;
    }

    /// Records the embedding of the wave on the device.
    pub(crate) fn record_embed(&mut self) {
        if let PendingPlan::Ready(plan) = &self.plan {
            plan.record_embed(&self.shape, &mut self.commands);
        }
    }

    /// Records a layer's attention. Returns `false` if the layer is not on this GPU.
    pub(crate) fn record_attention(&mut self, layer: usize) -> bool {
        let recording = self.recording();
        recording.is_some_and(|(plan, shape, commands)| plan.record_attention(layer, shape, commands))
    }

    /// Records a layer's feed-forward network, and submits the recorded commands once they exceed the submit budget.
    /// Returns `false` if the layer is not on this GPU.
    pub(crate) fn record_ffn(&mut self, layer: usize) -> bool {
        let recording = self.recording();
        let recorded =
            recording.is_some_and(|(plan, shape, commands)| plan.record_ffn(layer, shape, commands));
        if recorded && self.submit_budget.layer(self.shape.rows as usize, self.gpu.submit_budget()) {
            self.commands.submit(&self.gpu);
            self.submit_budget.submitted();
        }
        recorded
    }

    /// Records the head up to the logits. Returns false if the plan is not there.
    pub(crate) fn record_head(&mut self) -> bool {
        let recording = self.recording();
        if let Some((plan, shape, commands)) = recording {
            plan.record_head(shape, commands);
            return true;
        }
        false
    }

    /// Number of splits of each context: as many as keep the device busy and fit the buffer of partial sums.
    fn splits(&self, rows: u32, longest: usize) -> u32 {
        let most = (SPLIT_ROWS * weft_gpu::SPLITS_MAX as usize) / (rows as usize).max(1);
        self.attention.splits(rows as usize, longest, WORKGROUPS).min(most.max(1) as u32)
    }

    /// Uploads a wave's rows, positions and block tables. With `causal`, rows attend to the positions up to their own;
    /// otherwise to all of their text.
    fn write_wave(&mut self, wave: &Wave, causal: bool) {
        let mut arrays = core::mem::take(&mut self.rows);
        let RowWords { kv, tables, tiles, seen } = &mut arrays;
        kv.clear();
        tables.clear();
        tiles.clear();
        seen.clear();
        let tiled = wave.spans.iter().any(|span| span.rows.len() > TILED_ROWS);
        let mut longest = 0;
        for span in &wave.spans {
            longest = longest.max(span.start + span.rows.len());
            for row in span.rows.clone() {
                kv.push(wave.slots[row] * PAGE as u32 + wave.positions[row] % PAGE as u32);
                tables.push(span.table.start as u32);
            }
            if !causal {
                let last = span.start + span.rows.len() - 1;
                seen.extend(span.rows.clone().map(|_| last as u32));
            }
            if tiled {
                let firsts = span.rows.clone().step_by(TILE);
                tiles.extend(
                    firsts.map(|first| (first as u32) << 8 | (span.rows.end - first).min(TILE) as u32),
                );
            }
        }
        let rows = wave.rows() as u32;
        let splits = if tiled { 1 } else { self.splits(rows, longest) };
        self.shape = WaveShape {
            rows,
            logit_rows: wave.logit_rows.len() as u32,
            splits,
            tiles: tiles.len() as u32,
            attend: match splits {
                _ if tiled => Attend::Tiled,
                1 if self.attention.is_short(rows as usize, WORKGROUPS) => Attend::Short,
                1 => Attend::Direct,
                _ => Attend::Split,
            },
        };
        self.commands.describe(shape_of(wave));
        let data = WaveData {
            tokens: &wave.tokens,
            positions: &wave.positions,
            kv,
            tables,
            logit_rows: &wave.logit_rows,
            tiles,
            seen,
            splits: self.shape.splits,
        };
        data.encode(&mut self.words);
        let Self { gpu, scratch, words, uploads, .. } = self;
        uploads.wave.write(gpu, &scratch.wave, words);
        uploads.tables.write(gpu, &scratch.tables, &wave.tables);
        self.rows = arrays;
        self.adapting = false;
        let Self { gpu, adapted, used, adapting, .. } = self;
        if let Some(AdaptedPart { plan: PendingPlan::Ready(plan), .. }) = adapted
            && let Some(buffers) = plan.adapters.as_ref().filter(|_| !wave.adapters.is_empty())
        {
            *adapting = true;
            buffers.write(gpu, wave, used);
        }
    }

    /// Submits the recorded commands and starts to read back the first bytes of each buffer of `from`, one after
    /// another. The wave leaves the device.
    pub(super) fn send(&mut self, readback: Readback, spans: Vec<WaveSpan>, from: &[(&wgpu::Buffer, u64)]) {
        self.occupied = None;
        let bytes: u64 = from.iter().map(|(_, bytes)| bytes).sum();
        let staging = match staging(&self.gpu, &mut self.staging, bytes.max(16)) {
            Ok(staging) => staging,
            // The results cannot be read back. Without a reported failure the sessions would wait for ever.
            Err(error) => return self.gpu.give_up(&error),
        };
        let mut at = 0;
        for (from, bytes) in from.iter().filter(|(_, bytes)| *bytes > 0) {
            self.commands.copy(from, 0, &staging.buffer, at, *bytes);
            at += bytes;
        }
        let started = self.entered.take();
        self.submit_budget.submitted();
        let index = self.commands.submit(&self.gpu);
        let step = InFlight::new(&self.gpu, readback, spans, index, staging, started);
        self.in_flight.push_back(step);
    }

    /// Number of span lists kept for reuse.
    #[cfg(test)]
    pub(super) fn spares(&self) -> usize {
        self.spare.len()
    }

    /// Takes back the memory of a step that is done.
    pub(super) fn keep(&mut self, in_flight_step: InFlight) {
        let (mut spans, staging) = in_flight_step.into_buffers();
        // Readbacks of a hidden state carry no spans.
        if spans.capacity() > 0 {
            spans.clear();
            self.spare.push(spans);
        }
        return_staging(&mut self.staging, staging);
    }

    /// Sends a wave whose head has been recorded. Its tokens are read back, and its logits if the host chooses from
    /// them.
    pub(super) fn send_rows(&mut self, wave: &mut Wave, config: &ModelConfig) {
        let count = wave.logit_rows.len();
        let mut ends = wave.spans.iter().zip(&self.chosen);
        let logits = ends.any(|(span, chosen)| !chosen && !span.logits.is_empty());
        let spans = core::mem::replace(&mut wave.spans, self.spare.pop().unwrap_or_default());
        let rows = core::mem::take(&mut wave.logit_rows);
        let states = core::mem::take(&mut wave.state_rows);
        let hidden_rows = if states.is_empty() { 0 } else { wave.rows() };
        let readback = Readback::Rows {
            turn: wave.turn,
            rows,
            chosen: core::mem::take(&mut self.chosen),
            logits,
            states,
        };
        let scratch = Arc::clone(&self.scratch);
        let id_bytes = 4 * id_words(count) as u64;
        let logit_bytes = if logits { 4 * (count * config.vocabulary) as u64 } else { 0 };
        let hidden_bytes = 4 * (hidden_rows * config.embedding) as u64;
        let gpu_shards =
            [(&scratch.ids, id_bytes), (&scratch.logits, logit_bytes), (&scratch.hidden, hidden_bytes)];
        self.send(readback, spans, &gpu_shards);
        wave.clear();
    }
}
