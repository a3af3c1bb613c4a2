//! Plugins: the resources, systems and observers that a world needs to run models.
//!
//! [`CorePlugin`] adds the schedules and the stages that all backends share. [`CpuPlugin`] and [`GpuPlugin`] add one
//! backend each. [`Engine::new`](crate::Engine::new) adds all three; a program with its own world adds those that it
//! wants.

use crate::answer;
use crate::error::Error;
use crate::options::EngineOptions;
use crate::schedule::{LayerSet, LayerStep, SampleSet, Tick, TickBudget, TickSet, add_schedules};
use crate::world::{ClosedSessions, ComputePool, LastTick, finish_tick};
use bevy_ecs::prelude::*;
use core::any::TypeId;
use std::sync::Arc;
use weft_components::{DeviceEvent, LoadFailure, LoadProgress, SessionEvent, TickWork};
use weft_gpu::Gpu;
use weft_platform::{Cpu, Kernels, Pool};
use weft_systems::admit::{self, AdmitOptions};
use weft_systems::host::{HostCpu, Wake};
use weft_systems::layers;
use weft_systems::load::{self, Moves};
use weft_systems::on_cpu::{self as cpu, CpuPlace};
use weft_systems::on_gpu::{self as gpu, GpuBackend};
use weft_systems::sample::SampleBuffers;
use weft_systems::{kv, reclaim, sample, speculate};

/// Something that adds resources, systems and observers to a world. Functions and closures over `&mut World` are
/// plugins.
pub trait Plugin: 'static {
    /// Adds the plugin to the world. [`add_plugin`] calls it once per world.
    fn build(&self, world: &mut World);
}

impl<F: Fn(&mut World) + 'static> Plugin for F {
    fn build(&self, world: &mut World) {
        self(world);
    }
}

/// The types of the plugins that have been added to a world.
#[derive(Resource, Default)]
struct AddedPlugins(Vec<TypeId>);

/// Adds a plugin to a world. Does nothing and returns false if the world already has a plugin of the same type, because
/// systems that are added twice run twice.
pub fn add_plugin<P: Plugin>(world: &mut World, plugin: &P) -> bool {
    let mut added = world.get_resource_or_init::<AddedPlugins>();
    if added.0.contains(&TypeId::of::<P>()) {
        return false;
    }
    added.0.push(TypeId::of::<P>());
    plugin.build(world);
    true
}

/// The messages, resources, schedules ([`Tick`], [`LayerStep`]) and stages that all backends share. Without
/// [`CpuPlugin`], tokens are sampled on the caller's thread.
#[derive(Clone, Copy, Debug)]
pub struct CorePlugin {
    /// Maximum number of rows in a wave.
    pub max_rows: usize,
}

impl Default for CorePlugin {
    fn default() -> Self {
        Self { max_rows: AdmitOptions::default().max_rows }
    }
}

impl Plugin for CorePlugin {
    fn build(&self, world: &mut World) {
        world.init_resource::<Messages<SessionEvent>>();
        world.init_resource::<Messages<LoadProgress>>();
        world.init_resource::<Messages<LoadFailure>>();
        world.init_resource::<Messages<DeviceEvent>>();
        world.init_resource::<SampleBuffers>();
        world.init_resource::<TickWork>();
        world.init_resource::<TickBudget>();
        world.init_resource::<LastTick>();
        world.init_resource::<Wake>();
        world.init_resource::<ClosedSessions>();
        world.insert_resource(AdmitOptions { max_rows: self.max_rows.max(1), ..AdmitOptions::default() });
        world.init_resource::<Moves>();
        world.add_observer(load::note_layer);
        world.add_observer(load::note_ends);
        world.add_observer(admit::enqueue);
        world.add_observer(kv::release_leaf);
        if !world.contains_resource::<HostCpu>() {
            world.insert_resource(HostCpu(Cpu::serial()));
        }
        add_schedules(world);
        add_stages(world);
    }
}

/// Adds the systems that all backends share.
fn add_stages(world: &mut World) {
    world.schedule_scope(Tick, |_, tick| {
        tick.add_systems((
            (load::receive_shards, load::move_layers, load::demand_layers).chain().in_set(TickSet::Load),
            admit::admit.in_set(TickSet::Admit),
            layers::run_layers.in_set(TickSet::Layers),
            sample::mask_logits.in_set(SampleSet::Process),
            sample::sample.in_set(SampleSet::Deliver),
            (speculate::draft, speculate::draft_with_models).chain().in_set(TickSet::Speculate),
            (reclaim::reclaim_waves, reclaim::age_messages, answer::publish_answers, finish_tick)
                .chain()
                .in_set(TickSet::Reclaim),
        ));
    });
}

/// The CPU backend: kernels, threads, and the systems for layers on the CPU.
#[derive(Clone, Debug)]
pub struct CpuPlugin {
    /// Bytes of host memory that models may use; `None` for what is available.
    memory: Option<u64>,
    kernels: &'static Kernels,
    pool: Arc<Pool>,
}

impl CpuPlugin {
    /// Chooses the kernels and starts the threads.
    ///
    /// # Errors
    /// The machine does not have the instruction set, or the threads cannot be started.
    pub fn new(options: &EngineOptions) -> Result<Self, Error> {
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
        Ok(Self { memory: options.memory, kernels, pool: Arc::new(pool) })
    }
}

impl Plugin for CpuPlugin {
    fn build(&self, world: &mut World) {
        world.insert_resource(ComputePool(Arc::clone(&self.pool)));
        add_schedules(world);
        add_cpu(world, self.pool.cpu(self.kernels), self.memory);
    }
}

/// Registers the CPU as a place and adds the systems that compute there.
fn add_cpu(world: &mut World, cpu: Cpu, memory: Option<u64>) {
    world.insert_resource(HostCpu(cpu));
    CpuPlace::register(world, memory);
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

/// The GPU backend: open devices, each of them a place, and the systems for layers on them. Without a device the
/// systems do nothing.
#[derive(Clone)]
pub struct GpuPlugin {
    gpus: Vec<Arc<Gpu>>,
}

impl GpuPlugin {
    /// Rows in a wave that keep a large GPU busy: enough tiles of cooperative matrices for all its cores. A value for
    /// [`CorePlugin::max_rows`].
    pub const ROWS: usize = 2048;

    /// Creates a backend of GPUs that are already open.
    pub fn new(gpus: Vec<Gpu>) -> Self {
        Self { gpus: gpus.into_iter().map(Arc::new).collect() }
    }
}

impl Plugin for GpuPlugin {
    fn build(&self, world: &mut World) {
        add_schedules(world);
        add_gpus(world, self.gpus.clone());
    }
}

/// Registers each GPU as a place and adds the systems that compute there.
fn add_gpus(world: &mut World, gpus: Vec<Arc<Gpu>>) {
    world.init_resource::<GpuBackend>();
    #[cfg(not(target_family = "wasm"))]
    {
        world.add_observer(gpu::drop_gpu_logits);
        world.schedule_scope(Tick, |_, tick| {
            tick.add_systems(gpu::plan_gpu_logits.in_set(TickSet::Load).after(gpu::recover_gpu));
        });
    }
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
