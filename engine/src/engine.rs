//! The engine: one `World`, its schedules, and the thread pool that ticks run in.

use crate::error::Error;
use crate::options::{EngineOptions, LoadOptions, ModelSource};
use crate::schedule::{self, LayerSet, LayerStep, Tick, TickSet};
use crate::session::ReadCursor;
use bevy_ecs::prelude::*;
use weft_components::{LoadFailure, LoadProgress, Model, ModelConfig, Output, Phase, SessionEvent, TickWork};
use weft_platform::{Cpu, Kernels, Pool};
use weft_systems::admit::{self, AdmitOptions};
use weft_systems::cpu::{self, CpuBackend};
use weft_systems::load::{self, LoadFailed, LoadFeed, Loading, ModelFile, ModelTokenizer};
use weft_systems::sample::SampleBuffers;
use weft_systems::tokenize::Tokenizer;
use weft_systems::{attention, embed, ffn, head, reclaim, sample};

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
    feeds: QueryState<&'static LoadFeed>,
    pub(crate) readers: QueryState<(&'static Output, &'static mut ReadCursor)>,
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

/// A world with the schedules and the CPU backend in it, without a thread pool of its own.
#[cfg(test)]
pub(crate) fn new_world(options: &EngineOptions) -> Result<World, Error> {
    let (cpu, _) = backend(options)?;
    Ok(build_world(options, cpu))
}

fn build_world(options: &EngineOptions, cpu: Cpu) -> World {
    let mut world = World::new();
    world.init_resource::<Messages<SessionEvent>>();
    world.init_resource::<Messages<LoadProgress>>();
    world.init_resource::<Messages<LoadFailure>>();
    world.init_resource::<SampleBuffers>();
    world.init_resource::<TickWork>();
    world.insert_resource(AdmitOptions { max_rows: options.max_rows.max(1) });
    schedule::add_schedules(&mut world);
    add_stages(&mut world);
    add_cpu(&mut world, cpu);
    world
}

/// The systems that every backend shares.
fn add_stages(world: &mut World) {
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            load::receive_shards.in_set(TickSet::Load),
            admit::admit.in_set(TickSet::Admit),
            sample::sample.in_set(TickSet::Sample),
            (reclaim::reclaim_waves, reclaim::age_messages).chain().in_set(TickSet::Reclaim),
        ));
    });
}

/// The CPU backend: its systems, filtered by `OnCpu`.
fn add_cpu(world: &mut World, cpu: Cpu) {
    world.insert_resource(CpuBackend(cpu));
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            cpu::plan_cpu.in_set(TickSet::Load).after(load::receive_shards),
            embed::embed_cpu.in_set(TickSet::Embed),
            head::head_cpu.in_set(TickSet::Head),
        ));
    });
    world.schedule_scope(LayerStep, |_, step| {
        step.add_systems((
            attention::attention_cpu.in_set(LayerSet::Attention),
            ffn::ffn_cpu.in_set(LayerSet::Ffn),
        ));
    });
}

impl Engine {
    /// An engine without a model.
    ///
    /// # Errors
    /// An instruction set that this machine lacks, or threads that cannot be started.
    pub fn new(options: &EngineOptions) -> Result<Self, Error> {
        let (cpu, pool) = backend(options)?;
        let mut world = build_world(options, cpu);
        let (phases, feeds, readers) = (world.query(), world.query(), world.query());
        Ok(Self { world, pool, phases, feeds, readers })
    }

    /// Starts to load a model: reads its header, and leaves the weights to arrive tick by tick.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of a kind that the engine does not run.
    pub fn load(&mut self, source: impl Into<ModelSource>, options: &LoadOptions) -> Result<ModelId, Error> {
        let file = ModelFile::read(source.into().open()?)?;
        let model = load::spawn_model(&mut self.world, file, options.kv_tokens, options.kv_format)?;
        Ok(ModelId(model))
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
        let Self { world, pool, .. } = self;
        pool.install(|| {
            let _span = tracing::trace_span!("tick").entered();
            world.run_schedule(Tick);
        });
        if *self.world.resource::<TickWork>() != before {
            TickOutcome::Advanced
        } else if self.phases.iter(&self.world).any(|phase| phase.is_active())
            || self.feeds.iter(&self.world).next().is_some()
        {
            TickOutcome::Waiting
        } else {
            TickOutcome::Idle
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
        /// Short beside a shard's arrival, long beside a tick that finds nothing.
        const REST: core::time::Duration = core::time::Duration::from_micros(200);
        if self.tick() != TickOutcome::Advanced {
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
