//! The set `Layers`: runs waves through the resident layers.
//!
//! [`run_layers`] runs the schedule [`LayerStep`] once for each layer that a wave can enter. It moves a wave to the
//! place of each layer and of the head, and records in [`Wave::at`] how far the wave has come, so that a layer whose
//! attention has run continues with its feed-forward network.

use crate::place::Backends;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::ScheduleLabel;
use web_time::Instant;
use weft_components::{AtLayer, CurrentLayer, EndsHeldBy, HeldBy, Layers, Resident, TickWork, Wave, WaveOf};

/// One layer of one wave: attention, then the feed-forward network. Reads [`CurrentLayer`].
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerStep;

/// The stages of [`LayerStep`], in order.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
pub enum LayerSet {
    /// Norm, attention, residual.
    Attention,
    /// Norm, feed-forward network, residual.
    Ffn,
}

/// When a tick stops early. A resource; [`run_layers`] checks it before each layer. After the deadline a wave stays
/// before its next layer and continues in the next tick. At least one layer of each model with a wave runs in every
/// tick.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct TickBudget {
    /// The time after which no further layer starts; `None` for no limit.
    pub deadline: Option<Instant>,
}

/// Runs every wave through the resident layers, and stops it before the first layer that is not resident. Waves of a
/// model run in the order in which they were composed.
pub fn run_layers(
    world: &mut World,
    waves: &mut QueryState<(Entity, &Wave, &WaveOf)>,
    mut ready: Local<'_, Vec<(u64, Entity, Entity)>>,
    mut advanced: Local<'_, Vec<Entity>>,
) {
    ready.clear();
    ready.extend(
        waves
            .iter(world)
            .filter(|(_, wave, _)| wave.at.travels())
            .map(|(entity, wave, of)| (wave.turn, entity, of.0)),
    );
    if ready.is_empty() {
        return;
    }
    ready.sort_unstable_by_key(|(turn, ..)| *turn);
    let deadline = world.get_resource::<TickBudget>().and_then(|budget| budget.deadline);
    // Models of which a layer has run in this tick. Each runs at least one, so that a short budget starves no model.
    advanced.clear();
    world.schedule_scope(LayerStep, |world, step| {
        for (at, (_, wave, model)) in ready.iter().copied().enumerate() {
            let is_over = |advanced: &[Entity]| {
                deadline.is_some_and(|at| advanced.contains(&model) && Instant::now() >= at)
            };
            // It stays behind the model's earlier wave, because it may read what that one writes.
            let before = ready[..at].iter().rev().find(|(.., of)| *of == model).map(|(_, wave, _)| *wave);
            let is_behind =
                |world: &World| before.is_none_or(|before| passed(world, wave) < passed(world, before));
            while !is_over(&advanced) && is_behind(world) && advance(world, step, wave, model) {
                if deadline.is_some() && !advanced.contains(&model) {
                    advanced.push(model);
                }
            }
            let at_head = world.get::<Wave>(wave).is_some_and(|wave| wave.at == AtLayer::Head);
            if at_head && let Some(EndsHeldBy(ends)) = world.get::<EndsHeldBy>(model).copied() {
                Backends::bring(world, wave, ends.head);
            }
        }
    });
}

/// Halves of layers that a wave has passed; all of them once it is beyond the head.
fn passed(world: &World, wave: Entity) -> usize {
    match world.get::<Wave>(wave).map(|wave| wave.at) {
        Some(AtLayer::Embed) => 0,
        Some(AtLayer::Layer(index)) => 2 * index + 1,
        Some(AtLayer::Ffn(index)) => 2 * index + 2,
        _ => usize::MAX,
    }
}

/// Runs the layer that a wave is before or in, if possible. Returns true if it ran.
fn advance(world: &mut World, step: &mut Schedule, wave: Entity, model: Entity) -> bool {
    let (index, attended) = match world.get::<Wave>(wave).map(|wave| wave.at) {
        Some(AtLayer::Layer(index)) => (index, false),
        Some(AtLayer::Ffn(index)) => (index, true),
        _ => return false,
    };
    let Some(layer) = world.get::<Layers>(model).and_then(|layers| layers.entities().get(index)).copied()
    else {
        set_at(world, wave, AtLayer::Head);
        return false;
    };
    let (Some(HeldBy(place)), Some(Resident)) = (world.get(layer).copied(), world.get(layer)) else {
        return false;
    };
    if !Backends::bring(world, wave, place) {
        return false;
    }
    set_current(world, CurrentLayer { wave, model, layer, index, place, attended, computed: false });
    step.run(world);
    let CurrentLayer { attended, computed, .. } = *world.resource::<CurrentLayer>();
    if computed {
        world.resource_mut::<TickWork>().0 += 1;
        let next = index + 1;
        let is_last = world.get::<Layers>(model).is_none_or(|layers| next >= layers.entities().len());
        set_at(world, wave, if is_last { AtLayer::Head } else { AtLayer::Layer(next) });
    } else if attended {
        set_at(world, wave, AtLayer::Ffn(index));
    }
    computed
}

fn set_at(world: &mut World, wave: Entity, at: AtLayer) {
    if let Some(mut wave) = world.get_mut::<Wave>(wave) {
        wave.at = at;
    }
}

/// Sets the current layer. Writes in place, because inserting a resource costs more than a layer's bookkeeping.
fn set_current(world: &mut World, current: CurrentLayer) {
    match world.get_resource_mut::<CurrentLayer>() {
        Some(mut resource) => *resource = current,
        None => world.insert_resource(current),
    }
}
