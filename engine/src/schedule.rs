//! The pipeline: which sets run in which order, and what runs a layer.
//!
//! `Tick` runs `Load → Admit → Embed → Layers → Head → Sample → Speculate → Reclaim`. `Layers` runs the schedule
//! [`LayerStep`] once for each layer that a wave can enter. Every schedule uses the single-threaded executor: cores
//! belong to the kernels.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{
    InternedScheduleLabel, IntoScheduleConfigs, ScheduleConfigs, ScheduleLabel, SingleThreadedExecutor,
};
use bevy_ecs::system::ScheduleSystem;
pub use weft_systems::layers::{LayerSet, LayerStep, TickBudget};

/// One step of everything: takes arrived shards, passes waves through layers, chooses tokens. Never waits.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tick;

/// The sets of [`Tick`], in order, with the systems of [`systems`](crate::systems) that each holds. Systems of the GPU run
/// after those of the CPU that are in the same set.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TickSet {
    /// Takes arrived shards, marks layers resident and moves them: `receive_shards`, `move_layers`, `demand_layers`, then
    /// `plan_cpu`, `plan_adapters`, then `plan_gpu`, `plan_gpu_adapters`, `shrink_waves`, `recover_gpu`.
    Load,
    /// Fills idle waves with rows of active sessions: `admit`.
    Admit,
    /// Tokens to hidden states, for waves at `AtLayer::Embed`: `embed_cpu`, `embed_gpu`.
    Embed,
    /// Passes waves through resident layers: `run_layers`, which runs [`LayerStep`].
    Layers,
    /// Hidden states to logits, for waves at `AtLayer::Head`: `head_cpu`, `head_gpu`.
    Head,
    /// Logits to tokens, for waves at `AtLayer::Sample`, in the sets of [`SampleSet`].
    Sample,
    /// Proposes tokens to verify. Empty so far.
    Speculate,
    /// Empties sampled waves, ages messages and tells readers: `reclaim_waves`, `age_messages`, `publish_answers`,
    /// `finish_tick`.
    Reclaim,
}

/// The sets inside [`TickSet::Sample`], in order. A system of one's own that reads or changes logits, or chooses tokens, goes
/// into [`SampleSet::Process`] or [`SampleSet::Choose`] and looks at waves at `AtLayer::Sample`; its sessions carry
/// [`ReadsLogits`](weft_components::ReadsLogits), so that a GPU brings their logits to the host.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleSet {
    /// Backends submit what they have recorded, and devices choose tokens if they can: `sample_gpu`, `submit_gpu`.
    Submit,
    /// Readbacks of devices become waves at `AtLayer::Sample`: `collect_gpu`.
    Collect,
    /// Logits processors change the logits of such waves: `mask_logits`, and those that a program adds.
    Process,
    /// Samplers of a program's own choose tokens (`Wave::chosen`). Empty unless a program adds some. A sampler that keeps state
    /// ignores spans whose `epoch` is not that of the session's `ContextCursor`: the session was preempted since.
    Choose,
    /// The sessions' samplers choose the other tokens, and all are delivered: `sample`.
    Deliver,
}

/// A set of the pipeline, which knows its schedule. For [`add_systems`].
pub trait PipelineSet: SystemSet + Sized {
    /// Returns the schedule that the set is in.
    fn schedule(&self) -> InternedScheduleLabel;
}

impl PipelineSet for TickSet {
    fn schedule(&self) -> InternedScheduleLabel {
        Tick.intern()
    }
}

impl PipelineSet for LayerSet {
    fn schedule(&self) -> InternedScheduleLabel {
        LayerStep.intern()
    }
}

impl PipelineSet for SampleSet {
    fn schedule(&self) -> InternedScheduleLabel {
        Tick.intern()
    }
}

/// Adds systems to a set of the pipeline. They run in every tick, or for every layer of every wave, in the order that their
/// own `before` and `after` say, which may name [`systems`](crate::systems) of the pipeline.
pub fn add_systems<S: PipelineSet, M>(
    world: &mut World,
    set: S,
    systems: impl IntoScheduleConfigs<ScheduleSystem, M>,
) {
    let systems: ScheduleConfigs<ScheduleSystem> = systems.into_configs();
    let label = set.schedule();
    world.get_resource_or_init::<Schedules>().add_systems(label, systems.in_set(set));
}

/// Adds the two schedules, ordered and on the single-threaded executor. Keeps systems that are in them already.
pub(crate) fn add_schedules(world: &mut World) {
    use TickSet::{Admit, Embed, Head, Load, Reclaim, Sample, Speculate};
    let mut schedules = world.get_resource_or_init::<Schedules>();
    let tick = schedules.entry(Tick);
    tick.set_executor(SingleThreadedExecutor::new());
    tick.configure_sets((Load, Admit, Embed, TickSet::Layers, Head, Sample, Speculate, Reclaim).chain());
    tick.configure_sets(
        (SampleSet::Submit, SampleSet::Collect, SampleSet::Process, SampleSet::Choose, SampleSet::Deliver)
            .chain()
            .in_set(Sample),
    );
    let layer = schedules.entry(LayerStep);
    layer.set_executor(SingleThreadedExecutor::new());
    layer.configure_sets((LayerSet::Attention, LayerSet::Ffn).chain());
}
