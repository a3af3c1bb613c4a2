//! The engine: a `World` with the plugins, and the functions of [`world`] as methods.

mod models;
mod sessions;

use crate::error::Error;
use crate::options::EngineOptions;
use crate::plugin::{CorePlugin, CpuPlugin, GpuPlugin, Plugin, add_plugin};
use crate::schedule::{PipelineSet, add_systems};
use crate::world::{self, TickOutcome};
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::IntoScheduleConfigs;
use bevy_ecs::system::ScheduleSystem;
use core::time::Duration;
use std::sync::Arc;
use weft_gpu::Gpu;
use weft_platform::Signal;
use weft_systems::admit::AdmitOptions;

/// Runs models and their sessions. One thread owns it and ticks it. [`Engine::spawn`](crate::Engine::spawn) moves it to
/// its own thread, to which other threads send commands.
///
/// Most methods call the function of [`world`] that they name.
pub struct Engine {
    world: World,
}

impl Engine {
    /// Creates an engine without a model. Blocks until the GPUs of the options are open.
    ///
    /// # Errors
    /// The machine does not have the instruction set, threads cannot be started, or a GPU cannot be opened.
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

    /// Creates an engine on GPUs that are already open; [`EngineOptions::gpu`] is ignored. The only way to use a GPU in
    /// a browser, where opening one is asynchronous and [`Engine::new`] opens none.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_gpus(options: &EngineOptions, gpus: Vec<Gpu>) -> Result<Self, Error> {
        let cpu = CpuPlugin::new(options)?;
        let rows = if gpus.is_empty() { AdmitOptions::default().max_rows } else { GpuPlugin::ROWS };
        let mut engine = Self { world: World::new() };
        engine.add_plugin(&CorePlugin { max_rows: options.max_rows.unwrap_or(rows) }).add_plugin(&cpu);
        // Without a GPU its systems would only cost time in every tick.
        if !gpus.is_empty() {
            engine.add_plugin(&GpuPlugin::new(gpus));
        }
        Ok(engine)
    }

    /// Creates an engine from an existing world. Adds [`CorePlugin`] if the world lacks it.
    pub fn from_world(world: World) -> Self {
        let mut engine = Self { world };
        engine.add_plugin(&CorePlugin::default());
        engine
    }

    /// Adds a plugin, unless the engine already has one of that type. See [`add_plugin`].
    pub fn add_plugin<P: Plugin>(&mut self, plugin: &P) -> &mut Self {
        add_plugin(&mut self.world, plugin);
        self
    }

    /// Adds your own systems to a set of the pipeline. See [`add_systems`].
    pub fn add_systems<S: PipelineSet, M>(
        &mut self,
        set: S,
        systems: impl IntoScheduleConfigs<ScheduleSystem, M>,
    ) -> &mut Self {
        add_systems(&mut self.world, set, systems);
        self
    }

    /// Returns the world, for queries and resources.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns the world mutably.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// Takes the world out of the engine. [`world::tick`] continues its work.
    pub fn into_world(self) -> World {
        self.world
    }

    /// Runs one tick. Waits only for the CPU kernels that it runs. See [`world::tick`].
    pub fn tick(&mut self) -> TickOutcome {
        world::tick(&mut self.world)
    }

    /// Runs one tick that starts no further layer once `budget` has passed. See [`world::tick_for`].
    pub fn tick_for(&mut self, budget: Duration) -> TickOutcome {
        world::tick_for(&mut self.world, budget)
    }

    /// Waits until another tick may make progress, at most 100 ms, for a loop that calls [`Engine::tick`]. See
    /// [`world::rest`].
    #[cfg(not(target_family = "wasm"))]
    pub fn rest(&mut self) {
        world::rest(&mut self.world);
    }

    /// Returns the signal with which other threads say that the next tick has work. It ends [`Engine::rest`] unless a
    /// step is in flight on a GPU. See [`world::signal`].
    pub fn signal(&mut self) -> Arc<Signal> {
        world::signal(&mut self.world)
    }
}
