//! What all stages share of the host: its kernels and threads, and the signal that wakes its thread.

use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_platform::{Cpu, Signal};

/// The kernels and threads of the host. The CPU backend computes with them, the loader lays out weights and the samplers
/// choose tokens.
#[derive(Resource, Clone, Copy)]
pub struct HostCpu(pub Cpu);

impl HostCpu {
    /// Those of a world; a single thread if it names none.
    pub fn of(world: &World) -> Cpu {
        world.get_resource::<Self>().map_or_else(Cpu::serial, |host| host.0)
    }
}

/// Raised by whatever makes the next tick worth running: a loader that has a shard, a device that has finished a step.
#[derive(Resource, Clone, Default)]
pub struct Wake(pub Arc<Signal>);

impl Wake {
    /// The signal of a world; one that nobody waits for if it has none.
    pub fn of(world: &World) -> Arc<Signal> {
        world.get_resource::<Self>().cloned().unwrap_or_default().0
    }
}
