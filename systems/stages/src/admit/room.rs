//! Capacity of the KV cache: decides which sessions may start and whose context is preempted.
//!
//! Sessions at rest are preempted first, the least recently used one before the others, then the youngest session at
//! work. A preempted session starts again when the free pages hold all that it and the sessions at work may still need,
//! or when no session is at work. So the oldest session always runs to its end, every session finishes, and no context
//! is computed again and again. Until then no younger session starts.

use super::{AdmitSession, AdmitSessionItem};
use crate::sample::SessionSampler;
use bevy_ecs::prelude::*;
use weft_components::{BlockTable, ContextCursor, FinishReason, LeafRun, Pages, SessionEvent};
use weft_platform::PAGE;

/// How full the cache is when a wave is composed.
pub(super) struct Pressure {
    /// Sessions that have work to do.
    pub(super) active: usize,
    /// True if a session has more than one row to compute.
    pub(super) prompts: bool,
    /// Index in the list of the oldest preempted session that waits.
    waiting: Option<usize>,
    /// Sessions at work that hold pages.
    running: usize,
    /// Pages that these may still ask for.
    demand: usize,
    /// Free pages.
    free: usize,
}

/// Pages that a session may still ask for until its request ends.
fn demand(history: usize, max_tokens: usize, limit: usize, held: usize) -> usize {
    history.saturating_add(max_tokens).min(limit).div_ceil(PAGE).saturating_sub(held)
}

impl Pressure {
    pub(super) fn of(list: &[Entity], sessions: &Query<'_, '_, AdmitSession>, free: usize) -> Self {
        let mut pressure = Self { active: 0, prompts: false, waiting: None, running: 0, demand: 0, free };
        for (place, session) in list.iter().enumerate().filter_map(|(i, e)| Some((i, sessions.get(*e).ok()?)))
        {
            if !session.phase.is_active() {
                continue;
            }
            let history = session.history.0.len();
            pressure.active += 1;
            pressure.prompts |= history.saturating_sub(session.cursor.scheduled) > 1;
            if session.cursor.preempted {
                pressure.waiting = pressure.waiting.or(Some(place));
            } else if !session.table.0.is_empty() {
                let left = session.request.max_tokens.saturating_sub(session.output.tokens.len());
                pressure.running += 1;
                pressure.demand += demand(history, left, session.cursor.limit, session.table.0.len());
            }
        }
        pressure
    }

    /// Returns true if the session at this index, which has nothing cached, may start.
    pub(super) fn may_start(&self, place: usize, session: &AdmitSessionItem<'_, '_>) -> bool {
        match self.waiting {
            None => true,
            Some(oldest) if place != oldest => false,
            Some(_) => self.running == 0 || self.free >= self.demand + self.demand_of(session),
        }
    }

    fn demand_of(&self, session: &AdmitSessionItem<'_, '_>) -> usize {
        let left = session.request.max_tokens.saturating_sub(session.output.tokens.len());
        demand(session.history.0.len(), left, session.cursor.limit, 0)
    }

    /// Accounts for a session that has just joined.
    pub(super) fn started(&mut self, session: &AdmitSessionItem<'_, '_>) {
        if session.cursor.preempted {
            self.running += 1;
        }
    }
}

/// Preempts cached context because sessions are starved: of as many sessions at rest or, if no session could advance,
/// of the youngest session at work. Returns the number of sessions changed.
pub(super) fn make_room(
    starved: &[Entity],
    nobody_moved: bool,
    list: &[Entity],
    sessions: &mut Query<'_, '_, AdmitSession>,
    runs: &Query<'_, '_, &Pages>,
    commands: &mut Commands<'_, '_>,
    events: &mut MessageWriter<'_, SessionEvent>,
) -> u64 {
    let holds = |entity: Entity, active: bool| {
        sessions
            .get(entity)
            .is_ok_and(|session| session.phase.is_active() == active && !session.table.0.is_empty())
    };
    let last_use = |entity: &Entity| sessions.get(*entity).map_or(0, |session| session.cursor.used);
    let mut victims: Vec<Entity> = list.iter().copied().filter(|entity| holds(*entity, false)).collect();
    victims.sort_by_key(last_use);
    victims.truncate(starved.len());
    if victims.is_empty() && nobody_moved {
        let youngest =
            list.iter().rev().copied().find(|entity| *entity != starved[0] && holds(*entity, true));
        victims.extend(youngest);
    }
    for victim in &victims {
        if let Ok(mut session) = sessions.get_mut(*victim) {
            session.cursor.preempted = session.phase.is_active();
            let unread = session.cursor.unread;
            session.sampler.take_back(unread);
            truncate_context(0, session.leaf.0, &mut session.table, &mut session.cursor, runs, commands);
        }
    }
    if victims.is_empty() && nobody_moved {
        // The starved session already holds the whole arena.
        if let Ok(mut session) = sessions.get_mut(starved[0]) {
            session.finish(starved[0], FinishReason::ContextFull, events);
        }
        return 1;
    }
    victims.len() as u64
}

/// Keeps the first tokens of a session's cached context, `(session, tokens to keep)`, and discards its rows in flight,
/// because the context that they depend on has changed. Random numbers of tokens that will not be read are drawn again.
pub fn truncate_session(
    In((session, keep)): In<(Entity, usize)>,
    mut sessions: Query<'_, '_, (&LeafRun, &mut BlockTable, &mut ContextCursor, Option<&mut SessionSampler>)>,
    runs: Query<'_, '_, &Pages>,
    mut commands: Commands<'_, '_>,
) {
    if let Ok((leaf, mut table, mut cursor, sampler)) = sessions.get_mut(session) {
        cursor.preempted = false;
        if let Some(mut sampler) = sampler {
            sampler.take_back(cursor.unread);
        }
        truncate_context(keep, leaf.0, &mut table, &mut cursor, &runs, &mut commands);
    }
}

/// Keeps the first `keep` tokens of a cached context and returns the pages after them to the pool, last page first.
fn truncate_context(
    keep: usize,
    run: Entity,
    table: &mut BlockTable,
    cursor: &mut ContextCursor,
    runs: &Query<'_, '_, &Pages>,
    commands: &mut Commands<'_, '_>,
) {
    cursor.rewind(keep);
    let pages = cursor.computed.div_ceil(PAGE);
    table.0.truncate(pages);
    if let Ok(held) = runs.get(run) {
        for page in held.entities().iter().skip(pages).rev() {
            commands.entity(*page).try_despawn();
        }
    }
}
