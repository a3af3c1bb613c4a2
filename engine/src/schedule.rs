//! The pipeline: which sets run in which order, and what runs a layer.
//!
//! `Tick` runs `Load → Admit → Embed → Layers → Head → Sample → Speculate → Reclaim`. `Layers` runs the schedule
//! [`LayerStep`] once for each layer that a wave can enter. Every schedule uses the single-threaded executor: cores
//! belong to the kernels.

use bevy_ecs::prelude::*;
use bevy_ecs::schedule::{ScheduleLabel, SingleThreadedExecutor};
use weft_components::{AtLayer, CurrentLayer, Layers, Resident, TickWork, Wave, WaveOf};

/// One step of everything: takes what has arrived, passes a wave on, chooses tokens. Never waits.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tick;

/// One layer of one wave: attention, then the feed-forward network. Reads `CurrentLayer`.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerStep;

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

/// The stages of [`LayerStep`], in order.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub enum LayerSet {
    /// Norm, attention, residual.
    Attention,
    /// Norm, feed-forward network, residual.
    Ffn,
}

/// Adds the two schedules, ordered and on the single-threaded executor, with no backend's systems in them.
pub(crate) fn add_schedules(world: &mut World) {
    use TickSet::{Admit, Embed, Head, Load, Reclaim, Sample, Speculate};
    let mut tick = Schedule::new(Tick);
    tick.set_executor(SingleThreadedExecutor::new());
    tick.configure_sets((Load, Admit, Embed, TickSet::Layers, Head, Sample, Speculate, Reclaim).chain());
    tick.add_systems(pass_layers.in_set(TickSet::Layers));
    let mut layer = Schedule::new(LayerStep);
    layer.set_executor(SingleThreadedExecutor::new());
    layer.configure_sets((LayerSet::Attention, LayerSet::Ffn).chain());
    world.add_schedule(tick);
    world.add_schedule(layer);
}

/// Passes every wave through the layers that are resident, and stops it before the first that is not. Waves of a model go in
/// the order in which they were made up.
fn pass_layers(
    world: &mut World,
    waves: &mut QueryState<(Entity, &Wave, &WaveOf)>,
    resident: &mut QueryState<(), With<Resident>>,
    mut ready: Local<'_, Vec<(u64, Entity, Entity, usize)>>,
) {
    let standing = waves.iter(world).filter_map(|(entity, wave, of)| match wave.at {
        AtLayer::Layer(index) => Some((wave.turn, entity, of.0, index)),
        _ => None,
    });
    ready.extend(standing);
    ready.sort_unstable_by_key(|(turn, ..)| *turn);
    world.schedule_scope(LayerStep, |world, step| {
        for (_, wave, model, first) in ready.drain(..) {
            let mut index = first;
            while let Some(layer) = layer_at(world, model, index).filter(|l| resident.get(world, *l).is_ok())
            {
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

/// Names the layer to be run; writes in place, since inserting a resource costs more than a layer's bookkeeping.
fn set_current(world: &mut World, current: CurrentLayer) {
    match world.get_resource_mut::<CurrentLayer>() {
        Some(mut resource) => *resource = current,
        None => world.insert_resource(current),
    }
}
