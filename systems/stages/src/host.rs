//! The parts of the host that all stages share: its kernels and threads, and the signal that wakes its thread.

use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_platform::{Cpu, Signal};

/// The kernels and threads of the host. The CPU backend computes with them, the loader lays out weights with them, and
/// the samplers choose tokens with them.
#[derive(Resource, Clone, Copy)]
pub struct HostCpu(pub Cpu);

impl HostCpu {
    /// The host CPU of a world. A single thread if the world has none.
    pub fn of(world: &World) -> Cpu {
        world.get_resource::<Self>().map_or_else(Cpu::serial, |host| host.0)
    }
}

/// The signal that wakes the thread that runs ticks. Raised when the next tick has work: a loader has a shard, a device
/// has finished a step.
#[derive(Resource, Clone, Default)]
pub struct Wake(pub Arc<Signal>);

impl Wake {
    /// The signal of a world. If the world has none, a new signal that no thread waits for.
    pub fn of(world: &World) -> Arc<Signal> {
        world.get_resource::<Self>().cloned().unwrap_or_default().0
    }
}
