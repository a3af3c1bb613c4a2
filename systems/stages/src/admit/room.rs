//! Out of pages: decides which sessions may start and whose context is preempted.
//!
//! Pages of contexts that nobody computes with are taken first (see [`crate::kv`]). Then, if no session can advance, the
//! session of the lowest priority that arrived last is preempted: it keeps its history, and what is left of its context
//! stays cached. It starts again when there are pages for its history and some more for every session at work, twice as
//! many each time that it was preempted, or when no session is at work. So the oldest session always runs to its end,
//! every session finishes, and contexts are not computed again and again. Until then no younger session starts.

use super::queue::SessionQueue;
use super::{AdmitOptions, Preempt};
use crate::kv::{available, swap_out, truncate_session};
use bevy_ecs::prelude::*;
use weft_components::{BlockTable, ContextCursor, Priority, TokenHistory};
use weft_platform::PAGE;

/// How full the cache is when a wave is composed.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// The oldest preempted session that waits.
    waiting: Option<Entity>,
    /// Sessions at work that hold pages.
    running: usize,
}

impl Pressure {
    /// Counts a session of the queue.
    pub(super) fn count(&mut self, session: Entity, preempted: bool, pages: usize) {
        if preempted {
            self.waiting = self.waiting.or(Some(session));
        } else if pages > 0 {
            self.running += 1;
        }
    }

    /// Returns true if a session that has nothing cached may start.
    pub(super) fn may_start(&self, world: &World, model: Entity, session: Entity) -> bool {
        /// Largest number of pages that are kept free for a session at work, as a power of two.
        const MARGIN: u32 = 10;
        match self.waiting {
            None => true,
            // More urgent sessions do not wait for it.
            Some(oldest) if session != oldest => priority(world, session) > priority(world, oldest),
            Some(_) if self.running == 0 => true,
            Some(_) => {
                let history = world.get::<TokenHistory>(session).map_or(0, |history| history.0.len());
                let times = world.get::<ContextCursor>(session).map_or(0, |cursor| cursor.preemptions);
                let each = 1 << times.saturating_sub(1).min(MARGIN);
                available(world, model) >= (history + 1).div_ceil(PAGE) + self.running * each
            }
        }
    }

    /// Accounts for a preempted session that has just joined.
    pub(super) fn started(&mut self) {
        self.running += 1;
        self.waiting = None;
    }
}

fn priority(world: &World, session: Entity) -> Priority {
    world.get::<Priority>(session).copied().unwrap_or_default()
}

/// Preempts a session because `starved` needs a page and no session can advance: of those with the lowest priority the one
/// that arrived last, which may be `starved` itself. Returns false if no other session holds pages: then the session's own
/// context fills the cache.
pub(super) fn preempt(world: &mut World, queue: &SessionQueue, starved: Entity) -> bool {
    let holds = |session: Entity| world.get::<BlockTable>(session).is_some_and(|table| table.pages() > 0);
    let holders =
        || queue.sessions.iter().rev().map(|queued| queued.session).filter(|session| holds(*session));
    if !holders().any(|session| session != starved) {
        return false;
    }
    let Some(victim) = holders().min_by_key(|session| priority(world, *session)) else { return false };
    if let Preempt::Swap { bytes } = AdmitOptions::of(world).preempt {
        swap_out(world, victim, bytes);
    }
    truncate_session(world, victim, 0);
    if let Some(mut cursor) = world.get_mut::<ContextCursor>(victim) {
        cursor.preempted = true;
        cursor.preemptions += 1;
    }
    true
}
