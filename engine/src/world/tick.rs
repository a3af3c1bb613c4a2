//! Running ticks: one pass of the schedule [`Tick`], in the thread pool, within a time budget.

use crate::schedule::{Tick, TickBudget};
use bevy_ecs::prelude::*;
use core::time::Duration;
use std::sync::Arc;
use web_time::Instant;
use weft_components::{Phase, TickWork};
use weft_platform::{Pool, Signal};
use weft_systems::admit::SessionQueue;
use weft_systems::host::Wake;
use weft_systems::load::LoadQueue;
use weft_systems::reclaim;

/// The outcome of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TickOutcome {
    /// The tick made progress. Run another at once.
    Advanced,
    /// Work is pending, but it waits for a shard or an in-flight step on a GPU.
    Waiting,
    /// There is nothing to do.
    #[default]
    Idle,
}

/// The outcome of the last tick. A resource, for systems and for programs that run the schedule [`Tick`] themselves.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastTick(pub TickOutcome);

/// The thread pool that ticks run in. A resource. In a world without it, ticks run on the caller's thread.
#[derive(Resource, Clone, Debug)]
pub struct ComputePool(pub Arc<Pool>);

/// Number of sessions closed since the world's record of removals was last cleared. A resource.
#[derive(Resource, Default)]
pub(crate) struct ClosedSessions(u32);

/// Returns the signal that wakes the thread that ticks the world.
pub fn signal(world: &mut World) -> Arc<Signal> {
    Arc::clone(&world.get_resource_or_init::<Wake>().0)
}

/// Runs one tick in a world without other schedules, and clears the world's record of removals.
///
/// Waits only for the CPU kernels that it runs, never for a shard or a device. A program with its own loop calls it
/// once per iteration. Other programs use functions that block, such as [`next_piece`](super::next_piece).
pub fn tick(world: &mut World) -> TickOutcome {
    let outcome = run_tick(world);
    // The world records every removal until the trackers are cleared. All systems that read removals have run.
    world.clear_trackers();
    if let Some(mut closed) = world.get_resource_mut::<ClosedSessions>() {
        closed.0 = 0;
    }
    outcome
}

/// Runs one tick that starts no further layer once `budget` has passed. The wave continues in the next tick. At least
/// one layer of each model with a wave runs, so a budget of zero still makes progress. Results do not depend on the
/// budget.
pub fn tick_for(world: &mut World, budget: Duration) -> TickOutcome {
    // A deadline beyond the clock's range means no limit.
    let deadline = Instant::now().checked_add(budget);
    let before = core::mem::replace(&mut world.get_resource_or_init::<TickBudget>().deadline, deadline);
    let outcome = tick(world);
    world.get_resource_or_init::<TickBudget>().deadline = before;
    outcome
}

/// Runs one tick in a world with other schedules, whose program calls `World::clear_trackers` once per frame. Returns
/// [`TickOutcome::Idle`] if the world has no schedule [`Tick`].
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

/// Records the outcome of the tick in [`LastTick`]. Runs last in the set `Reclaim`. Visits no idle session.
pub fn finish_tick(
    work: Res<'_, TickWork>,
    mut before: Local<'_, u64>,
    queues: Query<'_, '_, &SessionQueue>,
    sessions: Query<'_, '_, &Phase>,
    loads: Query<'_, '_, &LoadQueue>,
    mut last: ResMut<'_, LastTick>,
) {
    let advanced = core::mem::replace(&mut *before, work.0) != work.0;
    last.0 = if advanced {
        TickOutcome::Advanced
    } else if loads.iter().any(|queue| !queue.is_idle())
        || queues.iter().any(|queue| queue.is_active(&sessions))
    {
        TickOutcome::Waiting
    } else {
        TickOutcome::Idle
    };
}

/// Counts a closed session. A program may open and close sessions without running ticks, so every `KEPT` sessions the
/// record of removals and old messages are dropped: they would grow without bound.
pub(super) fn note_closed(world: &mut World) {
    /// Sessions closed between two ticks before their removals and messages are dropped.
    const KEPT: u32 = 1024;
    let Some(mut closed) = world.get_resource_mut::<ClosedSessions>() else { return };
    closed.0 += 1;
    if closed.0 >= KEPT {
        closed.0 = 0;
        // Fails only in a world without these messages, which has none to drop.
        let _ = world.run_system_cached(reclaim::age_messages);
        world.clear_trackers();
    }
}
