//! The GPU shard of a model: the layers, buffers and plan that one GPU holds, and the steps in flight on it.

use super::adapters::Listed;
use super::in_flight::{InFlight, Readback, Staging, return_staging, staging};
use super::kernel_plan::Plan;
use super::layer_weights::{EndWeights, LayerKv, LayerMap};
use super::logits::Processing;
use super::plan_builder::{Grown, Pending, PendingPlan, PlanBuilder};
use super::reserved::Reserved;
use super::scratch::{Scratch, ScratchSize, id_words};
use super::shape::WaveShape;
use super::submit_budget::SubmitBudget;
use super::upload::{RowWords, Uploads};
use bevy_ecs::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use weft_components::{ModelConfig, Place, TensorRole, Wave, WaveSpan};
use weft_gpu::sampling::SampleBatch;
use weft_gpu::{AttentionKernels, AttentionShape, Commands, Gpu, GpuError, wgpu};
use weft_platform::Signal;

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
    pub(super) attention: AttentionKernels,
    pub(super) plan: PendingPlan,
    /// True once the angles of rotary embedding have been written.
    pub(super) angles: bool,
    /// Commands recorded and not yet submitted.
    pub(super) commands: Commands,
    /// How much of a wave goes into one submit, learned from the device's speed.
    pub(super) submit_budget: SubmitBudget,
    /// Rows of the wave on the device and when it arrived. `None` if the device was busy with an earlier wave then.
    pub(super) entered: Option<(usize, web_time::Instant)>,
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
    pub(super) words: Vec<u32>,
    pub(super) rows: RowWords,
    pub(super) uploads: Uploads,
    /// Builds a new plan.
    pub(super) plan_builder: PlanBuilder,
    /// The size that the buffers may grow to.
    pub(super) most: ScratchSize,
    /// Rows of the largest wave that the model allows. `most` has fewer once the device had no memory for them.
    full_rows: usize,
    /// Memory reserved for the shard in the GPU's budget.
    pub(super) reserved: Reserved,
    /// Rows of the largest wave that did not fit the buffers.
    pub(super) wanted_rows: usize,
    /// Larger buffers and their plan, while they are being made.
    pub(super) growing: Option<Pending<Grown>>,
    /// True if the device had no memory for larger buffers.
    pub(super) out_of_memory: bool,
    /// The model's adapters on this GPU, if it has any.
    pub(super) adapted: Option<AdaptedPlan>,
    /// True if the model has other adapters than `adapted`.
    stale: bool,
    /// True if rows of the wave on the device use adapters.
    pub(super) adapting: bool,
    pub(super) used: Vec<[u32; 2]>,
    /// Token masks and logits processors, which change logits before tokens are chosen.
    pub(super) processing: Processing,
}

/// A model's adapters on a GPU, and the plan for rows that use them.
pub(super) struct AdaptedPlan {
    list: Vec<Entity>,
    pub(super) plan: PendingPlan,
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
            full_rows: most.rows,
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
            // There is memory again.
            self.out_of_memory = false;
            self.most.rows = self.full_rows;
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
        self.adapted = (!list.is_empty()).then(|| AdaptedPlan {
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
    pub(super) fn may_take(&self, wave: &Wave) -> bool {
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

    /// Submits the recorded commands and starts to read back the first bytes of each buffer of `from`, one after
    /// another. The wave leaves the device.
    pub(super) fn send(&mut self, readback: Readback, spans: Vec<WaveSpan>, from: &[(&wgpu::Buffer, u64)]) {
        self.occupied = None;
        let bytes: u64 = from.iter().map(|(_, bytes)| bytes).sum();
        let staging = match staging(&self.gpu, &mut self.staging, bytes.max(16)) {
            Ok(staging) => staging,
            // The results cannot be read back. Without a reported failure the sessions would wait for ever.
            Err(error) => return self.gpu.mark_failed(&error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_gpu::head_gpu;
    use crate::on_gpu::testing::world;
    use bevy_ecs::system::RunSystemOnce;
    use weft_components::{AtLayer, Resident};

    fn gpu_shard(world: &mut World, model: Entity) -> Mut<'_, GpuShards> {
        world.get_mut::<GpuShards>(model).unwrap()
    }

    fn wave(world: &mut World) -> Entity {
        let mut waves = world.query_filtered::<Entity, With<Wave>>();
        waves.single(world).unwrap()
    }

    #[test]
    fn several_changes_lead_to_one_plan() {
        let (mut world, model) = world();
        let mut shards = gpu_shard(&mut world, model);
        let gpu_shard = &mut shards.0[0];
        for layer in 0..2 {
            gpu_shard.drop_layer(layer, false);
            assert!(matches!(gpu_shard.plan, PendingPlan::Due), "nothing is built before the next tick");
        }
        gpu_shard.poll_plan().unwrap();
        assert!(!matches!(gpu_shard.plan, PendingPlan::Due));
    }

    #[test]
    fn a_hidden_state_does_not_reach_the_next_rows_of_its_wave() {
        let (mut world, model) = world();
        let entity = wave(&mut world);
        let config = world.get::<ModelConfig>(model).unwrap().clone();
        let rows = Wave { tokens: vec![1, 2], ..Wave::default() };
        let mut shards = gpu_shard(&mut world, model);
        let gpu_shard = &mut shards.0[0];
        gpu_shard.occupied = Some(entity);
        gpu_shard.send_hidden(entity, &rows, &config);
        let reader = |gpu_shard: &GpuShard| match &gpu_shard.in_flight[0].readback {
            Readback::Hidden { wave } => *wave,
            Readback::Rows { .. } => panic!("it reads a hidden state"),
        };
        assert_eq!(reader(gpu_shard), entity);
        gpu_shard.abandon(entity);
        assert_ne!(reader(gpu_shard), entity);
    }

    #[test]
    fn a_wave_waits_for_the_plan_before_the_head() {
        let (mut world, model) = world();
        let entity = wave(&mut world);
        world.entity_mut(model).insert(Resident);
        world.get_mut::<Wave>(entity).unwrap().at = AtLayer::Head;
        let mut shards = gpu_shard(&mut world, model);
        let gpu_shard = &mut shards.0[0];
        gpu_shard.occupied = Some(entity);
        assert!(matches!(gpu_shard.plan, PendingPlan::Due));
        world.run_system_once(head_gpu).unwrap();
        assert_eq!(world.get::<Wave>(entity).unwrap().at, AtLayer::Head);
    }
}
