//! What one GPU holds of a model, and how a wave enters it.

use super::flight::{Cargo, Flight, Staging, staging};
use super::plan::{Plan, WaveShape};
use super::prepare::GpuPrepare;
use super::scratch::Scratch;
use super::weights::{EndWeights, LayerWeights};
use crate::load::{Prepare, ShardOwner, ShardSpec};
use bevy_ecs::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use weft_components::{AtLayer, ModelConfig, Place, TensorRole, Wave, WaveSpan};
use weft_gpu::attention::{self, AttentionShape};
use weft_gpu::{Commands, Gpu, GpuError, WaveData, wgpu};
use weft_platform::PAGE;

/// A plan that is being made, or is there.
pub(super) enum PlanSlot {
    #[cfg(not(target_family = "wasm"))]
    Building(crossbeam_channel::Receiver<Result<Plan, GpuError>>),
    Ready(Box<Plan>),
    Failed(GpuError),
}

/// What one GPU holds of a model.
pub struct GpuPart {
    /// The GPU's number.
    pub number: usize,
    /// The GPU.
    pub gpu: Arc<Gpu>,
    pub(super) layers: Arc<BTreeMap<usize, LayerWeights>>,
    pub(super) ends: Arc<EndWeights>,
    pub(super) scratch: Arc<Scratch>,
    pub(super) attention: Arc<AttentionShape>,
    pub(super) plan: PlanSlot,
    /// Whether the angles of rotary embedding have been written.
    pub(super) angles: bool,
    /// Recorded and not yet submitted.
    pub(super) commands: Commands,
    /// The wave whose rows the scratch holds.
    pub(super) occupied: Option<Entity>,
    pub(super) shape: WaveShape,
    pub(super) flights: VecDeque<Flight>,
    pub(super) staging: Vec<Staging>,
    /// Spans' memory, to be used again.
    pub(super) spare: Vec<Vec<WaveSpan>>,
    /// Tensors of the model itself that are known to have arrived, a bit a role.
    there: u32,
    words: Vec<u32>,
    rows: RowWords,
}

/// Arrays by row, kept for their memory.
#[derive(Default)]
struct RowWords {
    kv: Vec<u32>,
    tables: Vec<u32>,
    tiles: Vec<u32>,
}

/// A model's GPUs. A component of the model.
#[derive(Component, Default)]
pub struct GpuModel(pub Vec<GpuPart>);

impl GpuModel {
    /// The part on a GPU.
    pub fn on(&mut self, number: usize) -> Option<&mut GpuPart> {
        self.0.iter_mut().find(|part| part.number == number)
    }
}

impl GpuModel {
    /// Waits until the oldest submit under way is done, `longest` at most. `false` where none is under way.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&self, longest: core::time::Duration) -> bool {
        let Some((part, flight)) = self.0.iter().find_map(|part| Some((part, part.flights.front()?))) else {
            return false;
        };
        let submit =
            wgpu::PollType::Wait { submission_index: Some(flight.index.clone()), timeout: Some(longest) };
        // A device that is lost, or takes longer, is found by the next tick.
        let _ = part.gpu.device.poll(submit);
        true
    }

    /// What brings a shard to the GPUs that read it.
    pub fn prepare(&self, spec: &ShardSpec) -> Vec<Arc<dyn Prepare>> {
        let of = |part: &GpuPart| {
            let target = match spec.owner {
                ShardOwner::Model => part.ends.target(spec.shard.role),
                ShardOwner::Layer(index) => part.layers.get(&index)?.target(spec.shard.role),
            };
            let prepare = GpuPrepare { gpu: Arc::clone(&part.gpu), target: target? };
            Some(Arc::new(prepare) as Arc<dyn Prepare>)
        };
        self.0.iter().filter_map(of).collect()
    }
}

impl GpuPart {
    pub(super) fn new(
        number: usize,
        gpu: Arc<Gpu>,
        layers: BTreeMap<usize, LayerWeights>,
        ends: EndWeights,
        scratch: Scratch,
        attention: AttentionShape,
        config: &ModelConfig,
    ) -> Self {
        let (layers, ends, scratch, attention) =
            (Arc::new(layers), Arc::new(ends), Arc::new(scratch), Arc::new(attention));
        let build = {
            let (gpu, layers, ends) = (Arc::clone(&gpu), Arc::clone(&layers), Arc::clone(&ends));
            let (scratch, attention, config) = (Arc::clone(&scratch), Arc::clone(&attention), config.clone());
            move || Plan::build(&gpu, &config, &attention, &scratch, &layers, &ends)
        };
        Self {
            number,
            gpu,
            layers,
            ends,
            scratch,
            attention,
            plan: start(build),
            angles: false,
            commands: Commands::default(),
            occupied: None,
            shape: WaveShape::default(),
            flights: VecDeque::new(),
            staging: Vec::new(),
            spare: Vec::new(),
            there: 0,
            words: Vec::new(),
            rows: RowWords::default(),
        }
    }

    /// The plan, once it and what it reads are there.
    pub(super) fn plan(&self) -> Option<&Plan> {
        match &self.plan {
            PlanSlot::Ready(plan) if self.angles => Some(plan),
            _ => None,
        }
    }

    /// Takes the plan from its thread, if it is done. Never waits.
    pub(super) fn poll_plan(&mut self) -> Result<(), GpuError> {
        #[cfg(not(target_family = "wasm"))]
        if let PlanSlot::Building(receiver) = &self.plan {
            match receiver.try_recv() {
                Ok(Ok(plan)) => self.plan = PlanSlot::Ready(Box::new(plan)),
                Ok(Err(error)) => self.plan = PlanSlot::Failed(error),
                Err(crossbeam_channel::TryRecvError::Empty) => {}
                Err(crossbeam_channel::TryRecvError::Disconnected) => {
                    let reason = "the thread that compiles kernels ended".to_owned();
                    self.plan =
                        PlanSlot::Failed(GpuError::Lost { adapter: self.gpu.info.name.clone(), reason });
                }
            }
        }
        match &self.plan {
            PlanSlot::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Brings a wave's rows onto the device, its hidden state too where the host has it. `false` where the device cannot
    /// take it yet.
    pub(crate) fn enter(&mut self, entity: Entity, wave: &mut Wave, config: &ModelConfig) -> bool {
        if self.plan().is_none() {
            return false;
        }
        match self.occupied {
            Some(found) if found == entity => return true,
            Some(_) => return false,
            None => {}
        }
        self.write_wave(wave);
        if wave.hidden_at == Place::Cpu && !wave.hidden.is_empty() && wave.at != AtLayer::Embed {
            let bytes = bytemuck::cast_slice(&wave.hidden[..wave.rows() * config.embedding]);
            self.gpu.queue.write_buffer(&self.scratch.hidden, 0, bytes);
        }
        wave.hidden_at = Place::Gpu(self.number);
        self.occupied = Some(entity);
        true
    }

    /// Whether a tensor of the model itself is known to be there.
    pub(crate) fn has(&self, role: TensorRole) -> bool {
        self.there & (1 << role as usize) != 0
    }

    /// Notes that a tensor of the model itself is there.
    pub(crate) fn arrived(&mut self, role: TensorRole) {
        self.there |= 1 << role as usize;
    }

    /// Records the embedding of the wave that is on the device.
    pub(crate) fn record_embed(&mut self) {
        if let PlanSlot::Ready(plan) = &self.plan {
            plan.record_embed(&self.shape, &mut self.commands);
        }
    }

    /// Records a layer's attention. `false` where the layer is not here.
    pub(crate) fn record_attention(&mut self, layer: usize) -> bool {
        match &self.plan {
            PlanSlot::Ready(plan) => plan.record_attention(layer, &self.shape, &mut self.commands),
            _ => false,
        }
    }

    /// Records a layer's feed-forward network. `false` where the layer is not here.
    pub(crate) fn record_ffn(&mut self, layer: usize) -> bool {
        match &self.plan {
            PlanSlot::Ready(plan) => plan.record_ffn(layer, &self.shape, &mut self.commands),
            _ => false,
        }
    }

    /// Records the head up to the logits.
    pub(crate) fn record_head(&mut self) {
        if let PlanSlot::Ready(plan) = &self.plan {
            plan.record_head(&self.shape, &mut self.commands);
        }
    }

    fn write_wave(&mut self, wave: &Wave) {
        let RowWords { kv, tables, tiles } = &mut self.rows;
        kv.clear();
        tables.clear();
        tiles.clear();
        let tiled = wave.spans.iter().any(|span| span.rows.len() > attention::TILED_ROWS);
        let mut longest = 0;
        for span in &wave.spans {
            longest = longest.max(span.start + span.rows.len());
            for row in span.rows.clone() {
                kv.push(wave.slots[row] * PAGE as u32 + wave.positions[row] % PAGE as u32);
                tables.push(span.table.start as u32);
            }
            if tiled {
                let firsts = span.rows.clone().step_by(attention::TILE);
                tiles.extend(
                    firsts.map(|first| {
                        (first as u32) << 8 | (span.rows.end - first).min(attention::TILE) as u32
                    }),
                );
            }
        }
        let rows = wave.rows() as u32;
        self.shape = WaveShape {
            rows,
            logit_rows: wave.logit_rows.len() as u32,
            splits: self.attention.splits(rows, longest as u32),
            tiles: tiles.len() as u32,
        };
        let data = WaveData {
            tokens: &wave.tokens,
            positions: &wave.positions,
            kv,
            tables,
            logit_rows: &wave.logit_rows,
            tiles,
            splits: self.shape.splits,
        };
        data.encode(self.scratch.rows, &mut self.words);
        self.gpu.queue.write_buffer(&self.scratch.wave, 0, bytemuck::cast_slice(&self.words));
        let words = wave.tables.len().min(self.scratch.table_words);
        self.gpu.queue.write_buffer(&self.scratch.tables, 0, bytemuck::cast_slice(&wave.tables[..words]));
    }

    /// Submits what is recorded and starts to bring `bytes` of `from` back. The wave leaves the device.
    pub(super) fn send(&mut self, cargo: Cargo, spans: Vec<WaveSpan>, from: &wgpu::Buffer, bytes: u64) {
        self.occupied = None;
        // Memory for reading back is the host's: where there is none, the device's failure says so.
        let Ok(staging) = staging(&self.gpu, &mut self.staging, bytes.max(16)) else { return };
        if bytes > 0 {
            self.commands.copy(from, 0, &staging.buffer, 0, bytes);
        }
        let index = self.commands.submit(&self.gpu);
        self.flights.push_back(Flight::new(cargo, spans, index, staging));
    }

    /// Bytes of weights that one pass over the layers on this GPU reads, the head included.
    pub fn weight_bytes(&self) -> u64 {
        let layers: u64 = self.layers.values().map(LayerWeights::bytes).sum();
        layers + self.ends.head().map_or(0, super::weights::Product::bytes)
    }
}

#[cfg(not(target_family = "wasm"))]
fn start(build: impl FnOnce() -> Result<Plan, GpuError> + Send + 'static) -> PlanSlot {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let work = move || _ = sender.send(build());
    match std::thread::Builder::new().name("weft-kernels".into()).spawn(work) {
        Ok(_) => PlanSlot::Building(receiver),
        Err(error) => {
            PlanSlot::Failed(GpuError::Lost { adapter: "host".to_owned(), reason: error.to_string() })
        }
    }
}

#[cfg(target_family = "wasm")]
fn start(build: impl FnOnce() -> Result<Plan, GpuError>) -> PlanSlot {
    match build() {
        Ok(plan) => PlanSlot::Ready(Box::new(plan)),
        Err(error) => PlanSlot::Failed(error),
    }
}
