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
use web_time::Instant;
use weft_components::{AtLayer, CurrentLayer, Layers, Resident, TickWork, Wave, WaveOf};

/// One step of everything: takes arrived shards, passes waves through layers, chooses tokens. Never waits.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tick;

/// One layer of one wave: attention, then the feed-forward network. Systems read [`CurrentLayer`].
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerStep;

/// The sets of [`Tick`], in order, with the systems of [`systems`](crate::systems) that each holds. Systems of the GPU run
/// after those of the CPU that are in the same set.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TickSet {
    /// Takes arrived shards and marks layers resident: `receive_shards`, then `plan_cpu`, `plan_adapters`, then `plan_gpu`,
    /// `plan_gpu_adapters`, `collect_gpu`, `shrink_waves`, `recover_gpu`.
    Load,
    /// Fills idle waves with rows of active sessions: `admit`.
    Admit,
    /// Tokens to hidden states, for waves at `AtLayer::Embed`: `embed_cpu`, `embed_gpu`.
    Embed,
    /// Passes waves through resident layers: `pass_layers`, which runs [`LayerStep`].
    Layers,
    /// Hidden states to logits, for waves at `AtLayer::Head`: `head_cpu`, `head_gpu`.
    Head,
    /// Logits to tokens, for waves at `AtLayer::Sample`: `sample`, then `sample_gpu`, `submit_gpu`.
    Sample,
    /// Proposes tokens to verify. Empty so far.
    Speculate,
    /// Empties sampled waves, ages messages and tells readers: `reclaim_waves`, `age_messages`, `publish_answers`,
    /// `finish_tick`.
    Reclaim,
}

/// The sets of [`LayerStep`], in order.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerSet {
    /// Norm, attention, residual: `attention_cpu`, `attention_gpu`.
    Attention,
    /// Norm, feed-forward network, residual: `ffn_cpu`, `ffn_gpu`.
    Ffn,
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

/// When a tick stops early. A resource; [`pass_layers`] looks at it before each layer. Past the deadline a wave stays before
/// its next layer and continues at the next tick. At least one layer of each model with a wave runs in every tick.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct TickBudget {
    /// The time after which no further layer starts; `None` for no limit.
    pub deadline: Option<Instant>,
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
    let layer = schedules.entry(LayerStep);
    layer.set_executor(SingleThreadedExecutor::new());
    layer.configure_sets((LayerSet::Attention, LayerSet::Ffn).chain());
}

/// Passes every wave through the layers that are resident, and stops it before the first that is not, or at the deadline of
/// [`TickBudget`]. Waves of a model go in the order in which they were made up.
pub fn pass_layers(
    world: &mut World,
    waves: &mut QueryState<(Entity, &Wave, &WaveOf)>,
    resident: &mut QueryState<(), With<Resident>>,
    mut ready: Local<'_, Vec<(u64, Entity, Entity, usize)>>,
    mut advanced: Local<'_, Vec<Entity>>,
) {
    let standing = waves.iter(world).filter_map(|(entity, wave, of)| match wave.at {
        AtLayer::Layer(index) => Some((wave.turn, entity, of.0, index)),
        _ => None,
    });
    ready.extend(standing);
    ready.sort_unstable_by_key(|(turn, ..)| *turn);
    let deadline = world.get_resource::<TickBudget>().and_then(|budget| budget.deadline);
    // Models of which a layer has run in this tick. Each gets one, so that a short budget starves no model.
    advanced.clear();
    world.schedule_scope(LayerStep, |world, step| {
        for (_, wave, model, first) in ready.drain(..) {
            let mut index = first;
            while let Some(layer) = layer_at(world, model, index).filter(|l| resident.get(world, *l).is_ok())
            {
                if deadline.is_some_and(|at| advanced.contains(&model) && Instant::now() >= at) {
                    break;
                }
                set_current(
                    world,
                    CurrentLayer { wave, model, layer, index, attended: false, computed: false },
                );
                step.run(world);
                if !world.resource::<CurrentLayer>().computed {
                    break;
                }
                world.resource_mut::<TickWork>().0 += 1;
                index += 1;
                if deadline.is_some() && !advanced.contains(&model) {
                    advanced.push(model);
                }
            }
            let past_the_last = layer_at(world, model, index).is_none();
            if let Some(mut wave) = world.get_mut::<Wave>(wave) {
                wave.at = if past_the_last { AtLayer::Head } else { AtLayer::Layer(index) };
            }
        }
    });
}

fn layer_at(world: &World, model: Entity, index: usize) -> Option<Entity> {
    world.get::<Layers>(model)?.entities().get(index).copied()
}

/// Names the layer to be run. Writes in place, since inserting a resource costs more than a layer's bookkeeping.
fn set_current(world: &mut World, current: CurrentLayer) {
    match world.get_resource_mut::<CurrentLayer>() {
        Some(mut resource) => *resource = current,
        None => world.insert_resource(current),
    }
}
