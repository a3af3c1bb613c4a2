//! Running ticks: one pass of the schedule [`Tick`], in the thread pool, within a time budget.

use crate::schedule::{Tick, TickBudget};
use bevy_ecs::prelude::*;
use core::time::Duration;
use std::sync::Arc;
use web_time::Instant;
use weft_components::{Phase, TickWork};
use weft_platform::{Pool, Signal};
use weft_systems::host::Wake;
use weft_systems::load::LoadQueue;
use weft_systems::reclaim;

/// What a tick found to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TickOutcome {
    /// Something moved. Run another tick at once.
    Advanced,
    /// There is work, but it waits for something to arrive, such as a shard or a step on a GPU.
    Waiting,
    /// There is nothing to do.
    #[default]
    Idle,
}

/// What the last tick found to do. A resource, for systems and for programs that run the schedule [`Tick`] themselves.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastTick(pub TickOutcome);

/// The threads that ticks run in. A resource; a world without it runs ticks on the caller's thread alone.
#[derive(Resource, Clone, Debug)]
pub struct ComputePool(pub Arc<Pool>);

/// Sessions closed since the world last dropped its record of removals. A resource.
#[derive(Resource, Default)]
pub(crate) struct ClosedSessions(u32);

/// Returns the signal that wakes the thread which ticks the world.
pub fn signal(world: &mut World) -> Arc<Signal> {
    Arc::clone(&world.get_resource_or_init::<Wake>().0)
}

/// Runs one tick in a world that nothing else ticks, and drops the world's record of removals.
///
/// Never waits for anything but the kernels that it runs. In a program with a loop of its own, call it once a turn; elsewhere
/// use the functions that block, such as [`next_piece`](super::next_piece).
pub fn tick(world: &mut World) -> TickOutcome {
    let outcome = run_tick(world);
    // The world remembers every removal until the trackers are cleared. All systems that read removals have run.
    world.clear_trackers();
    if let Some(mut closed) = world.get_resource_mut::<ClosedSessions>() {
        closed.0 = 0;
    }
    outcome
}

/// Runs one tick that stops before the next layer once `budget` has passed; the wave continues at the next tick. At least
/// one layer of each model with a wave runs, so a budget of zero still makes progress. Results do not depend on it.
pub fn tick_for(world: &mut World, budget: Duration) -> TickOutcome {
    // A time that the clock cannot express is no limit.
    let deadline = Instant::now().checked_add(budget);
    let before = core::mem::replace(&mut world.get_resource_or_init::<TickBudget>().deadline, deadline);
    let outcome = tick(world);
    world.get_resource_or_init::<TickBudget>().deadline = before;
    outcome
}

/// Runs one tick in a world that has other schedules, which call `World::clear_trackers` once a frame themselves. A world
/// without the schedule is [`TickOutcome::Idle`].
pub fn run_tick(world: &mut World) -> TickOutcome {
    fn run(world: &mut World) -> bool {
        let _span = tracing::trace_span!("tick").entered();
        world.try_run_schedule(Tick).is_ok()
    }
    let pool = world.get_resource::<ComputePool>().map(|pool| Arc::clone(&pool.0));
    let ran = match pool {
        Some(pool) => pool.install(|| run(world)),
        None => run(world),
    };
    let last = world.get_resource::<LastTick>().filter(|_| ran);
    last.map_or(TickOutcome::Idle, |last| last.0)
}

/// Notes what the tick found to do. Runs last in the set `Reclaim`. Looks at sessions only if nothing moved, and stops at
/// the first active one.
pub fn finish_tick(
    work: Res<'_, TickWork>,
    mut before: Local<'_, u64>,
    sessions: Query<'_, '_, &Phase>,
    loads: Query<'_, '_, &LoadQueue>,
    mut last: ResMut<'_, LastTick>,
) {
    let advanced = core::mem::replace(&mut *before, work.0) != work.0;
    last.0 = if advanced {
        TickOutcome::Advanced
    } else if loads.iter().any(|queue| !queue.is_idle()) || sessions.iter().any(|phase| phase.is_active()) {
        TickOutcome::Waiting
    } else {
        TickOutcome::Idle
    };
}

/// Counts a closed session. A program may open and close sessions without a tick in between; the world's record of removals
/// and messages must not grow without bound then.
pub(super) fn note_closed(world: &mut World) {
    /// Sessions closed between two ticks whose removals and messages are kept.
    const KEPT: u32 = 1024;
    let Some(mut closed) = world.get_resource_mut::<ClosedSessions>() else { return };
    closed.0 += 1;
    if closed.0 >= KEPT {
        closed.0 = 0;
        // A world without the messages has none to drop.
        let _ = world.run_system_cached(reclaim::age_messages);
        world.clear_trackers();
    }
}
