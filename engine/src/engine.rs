//! The engine: one `World`, its schedules, and the thread pool that ticks run in.

use crate::error::Error;
use crate::options::EngineOptions;
use crate::schedule::{self, LayerSet, LayerStep, SampleSet, Tick, TickSet};
use crate::session::ReadCursor;
use bevy_ecs::prelude::*;
use weft_components::{
    DeviceEvent, LoadFailure, LoadProgress, Model, ModelConfig, Output, Phase, SamplingDefaults,
    SessionEvent, TickWork,
};
use weft_gpu::Gpu;
use weft_platform::{Cpu, Kernels, Pool};
use weft_systems::admit::{self, AdmitOptions};
use weft_systems::fail::LoadFailed;
use weft_systems::host::{HostCpu, Wake};
use weft_systems::load::{self, LoadQueue, Loading, Moves};
use weft_systems::on_cpu::{self as cpu, CpuPlace};
use weft_systems::on_gpu::{self as gpu, GpuBackend, GpuModel};
use weft_systems::sample::SampleBuffers;
use weft_systems::text::ModelTokenizer;
use weft_systems::{reclaim, sample};
use weft_text::Tokenizer;

/// A model of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(pub Entity);

/// What a tick found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickOutcome {
    /// Something moved: tick again at once.
    Advanced,
    /// There is work, but it waits for something to arrive.
    Waiting,
    /// There is nothing to do.
    Idle,
}

/// Runs models and their sessions. Not shared between threads: give it one of its own and send it messages, or tick
/// it where you draw.
pub struct Engine {
    pub(crate) world: World,
    pool: Pool,
    phases: QueryState<&'static Phase>,
    feeds: QueryState<&'static LoadQueue>,
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "nothing waits in a browser"))]
    gpus: QueryState<&'static GpuModel>,
    pub(crate) readers: QueryState<(&'static Output, &'static mut ReadCursor)>,
    /// Sessions closed since the world last dropped what it remembers of removals.
    closed: u32,
}

/// Chooses kernels and starts threads.
fn backend(options: &EngineOptions) -> Result<(Cpu, Pool), Error> {
    let kernels = match &options.isa {
        None => Kernels::detect(),
        Some(name) => Kernels::by_name(name).ok_or_else(|| Error::UnknownIsa {
            name: name.clone(),
            available: Kernels::available()
                .iter()
                .map(|kernels| kernels.name())
                .collect::<Vec<_>>()
                .join(", "),
        })?,
    };
    let pool = Pool::new(options.threads)
        .map_err(|error| Error::Threads { threads: options.threads, reason: error.to_string() })?;
    Ok((pool.cpu(kernels), pool))
}

fn build_world(options: &EngineOptions, cpu: Cpu, gpus: Vec<Gpu>) -> World {
    let mut world = World::new();
    world.init_resource::<Messages<SessionEvent>>();
    world.init_resource::<Messages<LoadProgress>>();
    world.init_resource::<Messages<LoadFailure>>();
    world.init_resource::<Messages<DeviceEvent>>();
    world.init_resource::<SampleBuffers>();
    world.init_resource::<TickWork>();
    world.init_resource::<Moves>();
    world.init_resource::<Wake>();
    world.add_observer(load::note_layer);
    world.add_observer(load::note_ends);
    /// Enough for tiles of cooperative matrices to fill a large GPU.
    const GPU_ROWS: usize = 2048;
    let usual = if gpus.is_empty() { AdmitOptions::default().max_rows } else { GPU_ROWS };
    world.insert_resource(AdmitOptions { max_rows: options.max_rows.unwrap_or(usual).max(1) });
    schedule::add_schedules(&mut world);
    add_stages(&mut world);
    add_cpu(&mut world, cpu);
    add_gpus(&mut world, gpus);
    world
}

/// The systems that every backend shares.
fn add_stages(world: &mut World) {
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            (load::receive_shards, load::move_layers, load::demand_layers).chain().in_set(TickSet::Load),
            admit::admit.in_set(TickSet::Admit),
            sample::sample.in_set(SampleSet::Deliver),
            (reclaim::reclaim_waves, reclaim::age_messages).chain().in_set(TickSet::Reclaim),
        ));
    });
}

/// The CPU backend: its systems, filtered by `OnCpu`.
fn add_cpu(world: &mut World, cpu: Cpu) {
    world.insert_resource(HostCpu(cpu));
    CpuPlace::register(world, None);
    world.add_observer(cpu::unplan_layer);
    world.add_observer(cpu::add_scratch);
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            (cpu::plan_cpu, cpu::plan_adapters).chain().in_set(TickSet::Load).after(load::demand_layers),
            cpu::embed_cpu.in_set(TickSet::Embed),
            cpu::head_cpu.in_set(TickSet::Head),
        ));
    });
    world.schedule_scope(LayerStep, |_, step| {
        step.add_systems((
            cpu::attention_cpu.in_set(LayerSet::Attention),
            cpu::ffn_cpu.in_set(LayerSet::Ffn),
        ));
    });
}

/// The GPU backend: its systems, filtered by `OnGpu`. Without a GPU they find nothing to do.
fn add_gpus(world: &mut World, gpus: Vec<Gpu>) {
    for gpu in gpus {
        GpuBackend::register(world, gpu);
    }
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            (gpu::plan_gpu, gpu::plan_gpu_adapters, gpu::shrink_waves, gpu::recover_gpu)
                .chain()
                .in_set(TickSet::Load)
                .after(load::demand_layers)
                .after(cpu::plan_adapters),
            gpu::embed_gpu.in_set(TickSet::Embed).after(cpu::embed_cpu),
            gpu::head_gpu.in_set(TickSet::Head).after(cpu::head_cpu),
            (gpu::sample_gpu, gpu::submit_gpu).chain().in_set(SampleSet::Submit),
            gpu::collect_gpu.in_set(SampleSet::Collect),
        ));
    });
    world.schedule_scope(LayerStep, |_, step| {
        step.add_systems((
            gpu::attention_gpu.in_set(LayerSet::Attention).after(cpu::attention_cpu),
            gpu::ffn_gpu.in_set(LayerSet::Ffn).after(cpu::ffn_cpu),
        ));
    });
}

impl Engine {
    /// An engine without a model.
    ///
    /// # Errors
    /// An instruction set that this machine lacks, threads that cannot be started, or a GPU that cannot be opened.
    pub fn new(options: &EngineOptions) -> Result<Self, Error> {
        #[cfg(not(target_family = "wasm"))]
        let gpus = match &options.gpu {
            Some(gpu) => pollster::block_on(Gpu::open_all(gpu))?,
            None => Vec::new(),
        };
        #[cfg(target_family = "wasm")]
        let gpus = Vec::new();
        Self::with_gpus(options, gpus)
    }

    /// An engine on GPUs that are open already. In a browser a GPU cannot be opened without waiting, so there
    /// [`EngineOptions::gpu`] is not looked at and this is the way.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_gpus(options: &EngineOptions, gpus: Vec<Gpu>) -> Result<Self, Error> {
        let (cpu, pool) = backend(options)?;
        let mut world = build_world(options, cpu, gpus);
        let (phases, feeds, gpus, readers) = (world.query(), world.query(), world.query(), world.query());
        Ok(Self { world, pool, phases, feeds, gpus, readers, closed: 0 })
    }

    /// Stops a load and drops the model with everything that has arrived; also unloads a whole model.
    pub fn unload(&mut self, model: ModelId) {
        if self.world.get::<Model>(model.0).is_some() {
            self.world.despawn(model.0);
        }
    }

    /// How far a model's load has come.
    ///
    /// # Errors
    /// The model is gone, or its load failed.
    pub fn progress(&self, model: ModelId) -> Result<LoadProgress, Error> {
        if let Some(LoadFailed(error)) = self.world.get(model.0) {
            return Err(Error::Load(error.clone()));
        }
        self.world.get::<Loading>(model.0).map(|loading| loading.0).ok_or(Error::NoModel)
    }

    /// A model's numbers.
    ///
    /// # Errors
    /// The model is gone.
    pub fn config(&self, model: ModelId) -> Result<&ModelConfig, Error> {
        self.world.get(model.0).ok_or(Error::NoModel)
    }

    /// What a model's file recommends for sampling: `general.sampling.*` of a GGUF, `generation_config.json` of a folder. Nothing
    /// follows it by itself: put it over settings of one's own with [`SamplingDefaults::over`].
    ///
    /// # Errors
    /// The model is gone.
    pub fn sampling_defaults(&self, model: ModelId) -> Result<&SamplingDefaults, Error> {
        self.world.get(model.0).ok_or(Error::NoModel)
    }

    /// A model's tokenizer.
    ///
    /// # Errors
    /// The model is gone, or its file has no vocabulary.
    pub fn tokenizer(&self, model: ModelId) -> Result<&Tokenizer, Error> {
        self.world.get::<Model>(model.0).ok_or(Error::NoModel)?;
        Ok(&self.world.get::<ModelTokenizer>(model.0).ok_or(Error::NoTokenizer)?.0)
    }

    /// Runs one tick.
    ///
    /// Never waits for anything but the kernels that it runs. In a program with a loop of its own, call it once a
    /// turn; elsewhere use the calls that block, such as [`Engine::next_piece`](crate::Engine::next_piece).
    pub fn tick(&mut self) -> TickOutcome {
        let before = *self.world.resource::<TickWork>();
        let Self { world, pool, closed, .. } = self;
        pool.install(|| {
            let _span = tracing::trace_span!("tick").entered();
            world.run_schedule(Tick);
        });
        // The world remembers every removal until it is told that whoever reads them has had a tick to do so.
        world.clear_trackers();
        *closed = 0;
        if *self.world.resource::<TickWork>() != before {
            TickOutcome::Advanced
        } else if self.phases.iter(&self.world).any(|phase| phase.is_active())
            || self.feeds.iter(&self.world).any(|queue| !queue.is_idle())
        {
            TickOutcome::Waiting
        } else {
            TickOutcome::Idle
        }
    }

    /// Takes note that a session has been closed. In a program that opens and closes sessions without a tick between, what the world
    /// remembers of removals and messages must not grow either.
    pub(crate) fn note_closed(&mut self) {
        /// Sessions closed between two ticks whose removals and messages are kept.
        const KEPT: u32 = 1024;
        self.closed += 1;
        if self.closed >= KEPT {
            self.closed = 0;
            // The system is ours, and its resources are there as long as the world: it cannot be refused.
            let _ = self.world.run_system_cached(reclaim::age_messages);
            self.world.clear_trackers();
        }
    }

    /// Ticks until every weight is there.
    ///
    /// # Errors
    /// The model is gone, or its load failed.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait_loaded(&mut self, model: ModelId) -> Result<(), Error> {
        while !self.progress(model)?.is_complete() {
            self.tick_or_rest();
        }
        Ok(())
    }

    /// Ticks; rests for a moment where there was nothing to do but wait.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn tick_or_rest(&mut self) {
        if self.tick() != TickOutcome::Advanced {
            self.rest();
        }
    }

    /// Rests until something may have changed: for a loop that calls [`Engine::tick`] and found nothing to do. Waits for the
    /// GPU where a step is under way there, else for a moment that is short beside a shard's arrival and long beside a tick.
    #[cfg(not(target_family = "wasm"))]
    pub fn rest(&mut self) {
        const REST: core::time::Duration = core::time::Duration::from_micros(200);
        /// No step takes as long; a device that hangs must not hang the program.
        const LONG: core::time::Duration = core::time::Duration::from_millis(100);
        if !self.gpus.iter(&self.world).any(|model| model.wait(LONG)) {
            std::thread::sleep(REST);
        }
    }

    /// The world, for systems of one's own and for tests. Schedules: [`Tick`] and [`LayerStep`].
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The world, to be changed.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }
}
