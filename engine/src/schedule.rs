//! The pipeline: the schedules, their sets and the order of the sets.
//!
//! `Tick` runs `Load → Admit → Embed → Layers → Head → Sample → Speculate → Reclaim`. `Layers` runs the schedule
//! [`LayerStep`] once for each layer that a wave can enter. Every schedule uses the single-threaded executor, because
//! the kernels use the cores.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{
    InternedScheduleLabel, IntoScheduleConfigs, ScheduleConfigs, ScheduleLabel, SingleThreadedExecutor,
};
use bevy_ecs::system::ScheduleSystem;
pub use weft_systems::layers::{LayerSet, LayerStep, TickBudget};

/// One step of the pipeline: takes arrived shards, runs waves through layers, samples tokens. Does not wait for shards
/// or devices.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tick;

/// The sets of [`Tick`], in order, with the [`systems`](crate::systems) in each. In every set GPU systems run after CPU
/// systems.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TickSet {
    /// Takes arrived shards, marks layers resident, moves layers and updates the plans: `receive_shards`,
    /// `move_layers`, `demand_layers`, then `plan_cpu`, `plan_adapters`, then `plan_gpu`, `plan_gpu_adapters`,
    /// `shrink_waves`, `recover_gpu`, `plan_gpu_logits`.
    Load,
    /// Fills idle waves with rows of active sessions: `admit`.
    Admit,
    /// Turns tokens into hidden states, for waves at `AtLayer::Embed`: `embed_cpu`, `embed_gpu`.
    Embed,
    /// Runs waves through resident layers: `run_layers`, which runs [`LayerStep`].
    Layers,
    /// Turns hidden states into logits, for waves at `AtLayer::Head`: `head_cpu`, `head_gpu`.
    Head,
    /// Samples tokens from logits, for waves at `AtLayer::Sample`, in the sets of [`SampleSet`].
    Sample,
    /// Drafts tokens that the next waves verify: `draft`.
    Speculate,
    /// Empties sampled waves, ages messages, wakes readers and records the tick's outcome: `reclaim_waves`,
    /// `age_messages`, `publish_answers`, `finish_tick`.
    Reclaim,
}

/// The sets inside [`TickSet::Sample`], in order. Add your own logits processor to [`SampleSet::Process`] and your own
/// sampler to [`SampleSet::Choose`]; both read waves at `AtLayer::Sample`. Their sessions need
/// [`ReadsLogits`](weft_components::ReadsLogits), so that a GPU copies the logits to the host.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleSet {
    /// Records sampling on devices where possible, and submits the recorded GPU steps: `sample_gpu`, `submit_gpu`.
    Submit,
    /// Turns finished readbacks into waves at `AtLayer::Sample`: `collect_gpu`.
    Collect,
    /// Logits processors change the logits of these waves: `mask_logits`, and those that a program adds.
    Process,
    /// A program's own samplers choose tokens (`Wave::chosen`). Empty unless a program adds one. A sampler with state
    /// must skip spans whose `epoch` differs from that of the session's `ContextCursor`: that session was preempted
    /// meanwhile.
    Choose,
    /// The sessions' samplers choose the remaining tokens, and all tokens are delivered: `sample`.
    Deliver,
}

/// A set of the pipeline and its schedule, for [`add_systems`].
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

/// Adds systems to a set of the pipeline. Systems in a [`LayerSet`] run for every layer of every wave, all others in
/// every tick. Order them with `before` and `after`, also against the pipeline's [`systems`](crate::systems).
pub fn add_systems<S: PipelineSet, M>(
    world: &mut World,
    set: S,
    systems: impl IntoScheduleConfigs<ScheduleSystem, M>,
) {
    let systems: ScheduleConfigs<ScheduleSystem> = systems.into_configs();
    let label = set.schedule();
    world.get_resource_or_init::<Schedules>().add_systems(label, systems.in_set(set));
}

/// Adds the two schedules, with ordered sets and the single-threaded executor. Keeps the systems that they already
/// have.
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
