//! The pipeline: which sets run in which order, and what runs a layer.
//!
//! `Tick` runs `Load → Admit → Embed → Layers → Head → Sample → Speculate → Reclaim`. `Layers` runs the schedule
//! [`LayerStep`] once for each layer that a wave can enter. Every schedule uses the single-threaded executor: cores
//! belong to the kernels.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use weft_systems::layers::run_layers;
pub use weft_systems::layers::{LayerSet, LayerStep};

/// One step of everything: takes what has arrived, passes a wave on, chooses tokens. Never waits.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tick;

/// The stages of [`Tick`], in order.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TickSet {
    /// Takes arrived shards and marks layers resident.
    Load,
    /// Makes up waves from sessions.
    Admit,
    /// Tokens to hidden state.
    Embed,
    /// Passes waves through layers.
    Layers,
    /// Hidden state to logits.
    Head,
    /// Logits to tokens.
    Sample,
    /// Proposes tokens to verify.
    Speculate,
    /// Empties waves and returns what is no longer used.
    Reclaim,
}

/// The stages of [`TickSet::Sample`], in order.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SampleSet {
    /// Backends submit what they have recorded, and have a device choose tokens where it can.
    Submit,
    /// What devices have brought back becomes waves that stand at the stage `Sample`.
    Collect,
    /// Logits processors: systems that change the logits of such waves. There is none unless one is added.
    Process,
    /// Samplers of one's own: systems that choose tokens in place of the sessions' samplers. There is none unless one is added.
    Choose,
    /// The other tokens are chosen, and all are delivered to their sessions.
    Deliver,
}

/// Adds the two schedules, ordered and on the single-threaded executor, with no backend's systems in them.
pub(crate) fn add_schedules(world: &mut World) {
    use TickSet::{Admit, Embed, Head, Load, Reclaim, Sample, Speculate};
    let mut tick = Schedule::new(Tick);
    tick.set_executor(SingleThreadedExecutor::new());
    tick.configure_sets((Load, Admit, Embed, TickSet::Layers, Head, Sample, Speculate, Reclaim).chain());
    tick.configure_sets(
        (SampleSet::Submit, SampleSet::Collect, SampleSet::Process, SampleSet::Choose, SampleSet::Deliver)
            .chain()
            .in_set(Sample),
    );
    tick.add_systems(run_layers.in_set(TickSet::Layers));
    let mut layer = Schedule::new(LayerStep);
    layer.set_executor(SingleThreadedExecutor::new());
    layer.configure_sets((LayerSet::Attention, LayerSet::Ffn).chain());
    world.add_schedule(tick);
    world.add_schedule(layer);
}
