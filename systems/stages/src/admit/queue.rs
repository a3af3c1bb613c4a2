//! The queue of a model's active sessions, and the order in which their prompts are computed.
//!
//! Sessions enter when a request starts and leave when admission finds it ended, so a tick never visits idle ones.
//!
//! Prompts are ordered by priority, which grows while a prompt waits; then by what the client and then the request itself
//! have been given so far, in steps that double, so that a short prompt is computed at once beside a long one and equal
//! ones are computed one after the other; then by arrival.

use super::decode_cost::Kind;
use super::wave_times::WaveTimes;
use crate::kv::{note_rest, truncate_session};
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use core::cmp::Reverse;
use std::collections::HashMap;
use web_time::Instant;
use weft_components::{Client, ContextCursor, LeafRun, Phase, Priority, Request, SessionOf};

/// Rows of prompts that a request, or a client, is given before it falls behind those that had fewer. Each further step
/// is twice as large.
const QUANTUM: u64 = 1024;
/// Waves that a prompt waits until its priority grows by one.
const AGEING: u64 = 64;
/// Waves after which half of what a client was given is forgotten.
const HALF_LIFE: u64 = 256;

/// A session in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) session: Entity,
    /// Rows of its prompt that have joined waves during the request.
    served: u64,
    /// The last wave that it joined, or the one at which it arrived.
    joined: u64,
}

/// A model's sessions with a request in progress, in order of arrival, and the state of turn-taking between them. A
/// component of the model.
#[derive(Component, Debug, Default)]
pub struct SessionQueue {
    pub(super) sessions: Vec<Queued>,
    /// The sessions among them.
    members: EntityHashSet,
    /// Where the next wave starts among the sessions that decode.
    pub(super) first: usize,
    /// True if the last wave that was too small for both kinds carried a decoding session.
    pub(super) decoded: bool,
    /// Number of waves composed so far.
    pub(super) waves: u64,
    /// Rows of prompts that clients were given lately.
    clients: HashMap<Client, u64>,
    /// How long waves take.
    pub(crate) times: WaveTimes,
}

impl SessionQueue {
    fn enter(&mut self, session: Entity) {
        if !self.members.insert(session) {
            // A request that follows another within a tick is a new arrival.
            self.sessions.retain(|queued| queued.session != session);
        }
        if self.sessions.is_empty() {
            self.times.rest();
        }
        self.sessions.push(Queued { session, served: 0, joined: self.waves });
    }

    /// Sessions with a request in progress, in order of arrival. A request that ended in this tick is still among them.
    pub fn sessions(&self) -> impl Iterator<Item = Entity> {
        self.sessions.iter().map(|queued| queued.session)
    }

    /// Number of sessions with a request in progress. A request that ended in this tick still counts.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns true if a request is in progress.
    pub fn is_active(&self, phases: &Query<'_, '_, &Phase>) -> bool {
        self.sessions.iter().any(|queued| phases.get(queued.session).is_ok_and(|phase| phase.is_active()))
    }

    /// Returns true if the queue has no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Notes that rows of a session, given by its place in the queue, have joined the wave being composed. `prompt` is
    /// their number if they are of its prompt, else 0.
    pub(super) fn joined(&mut self, world: &World, place: usize, prompt: usize) {
        let waves = self.waves;
        let Some(queued) = self.sessions.get_mut(place) else { return };
        queued.joined = waves;
        queued.served += prompt as u64;
        if let Some(client) = world.get::<Client>(queued.session).filter(|_| prompt > 0) {
            *self.clients.entry(*client).or_default() += prompt as u64;
        }
    }

    /// Removes sessions whose request has ended or is paused.
    pub(super) fn settle(&mut self, world: &mut World) {
        let Self { sessions, members, .. } = self;
        sessions.retain(|queued| {
            let phase = world.get::<Phase>(queued.session).copied();
            let stays = phase.is_some_and(Phase::is_active);
            if let (Some(_), false, Some(LeafRun(run))) = (phase, stays, world.get(queued.session).copied()) {
                note_rest(world, run);
            }
            if !stays {
                members.remove(&queued.session);
            }
            stays
        });
        if self.sessions.is_empty() {
            self.times.rest();
        }
    }

    /// Empties the queue. Returns the sessions that were in it.
    pub(super) fn take(&mut self) -> Vec<Queued> {
        self.members.clear();
        core::mem::take(&mut self.sessions)
    }

    /// Notes that a wave of `rows` rows, `prompt_rows` of them of prompts, has been composed.
    pub(super) fn composed(&mut self, rows: usize, prompt_rows: usize, kind: Kind) {
        self.times.start(self.waves, rows, prompt_rows, kind, Instant::now());
        self.waves += 1;
        if self.waves.is_multiple_of(HALF_LIFE) {
            self.clients.values_mut().for_each(|served| *served /= 2);
            self.clients.retain(|_, served| *served > 0);
        }
    }

    /// Sorts sessions, given by their place in the queue, into the order in which their prompts join.
    pub(super) fn order(&self, world: &World, prompts: &mut [usize]) {
        prompts.sort_by_cached_key(|place| {
            let queued = &self.sessions[*place];
            let priority = world.get::<Priority>(queued.session).copied().unwrap_or_default().0;
            let waited = self.waves.saturating_sub(queued.joined) / AGEING;
            let client = world.get::<Client>(queued.session).and_then(|client| self.clients.get(client));
            (
                Reverse(i64::from(priority) + waited as i64),
                step(client.copied().unwrap_or_default()),
                step(queued.served),
                *place,
            )
        });
    }
}

/// The step that an amount of rows has reached.
fn step(rows: u64) -> u32 {
    (rows / QUANTUM + 1).ilog2()
}

/// Enters a session into its model's queue when a request starts. An observer.
pub fn enqueue(
    started: On<'_, '_, Insert<Request>>,
    mut sessions: Query<'_, '_, (&Phase, &SessionOf, &mut ContextCursor)>,
    mut queues: Query<'_, '_, &mut SessionQueue>,
) {
    let session = started.entity;
    let Ok((phase, of, mut cursor)) = sessions.get_mut(session) else { return };
    cursor.preemptions = 0;
    if phase.is_active()
        && let Ok(mut queue) = queues.get_mut(of.0)
    {
        queue.enter(session);
    }
}

/// Lets a paused session go on. Does nothing if it is not paused.
pub fn resume_session(world: &mut World, session: Entity) {
    if world.get::<Phase>(session) != Some(&Phase::Paused) {
        return;
    }
    // Meanwhile it may have lost the end of its context, and with it the pages that its windows reach back to.
    truncate_session(world, session, usize::MAX);
    if let Some(mut phase) = world.get_mut::<Phase>(session) {
        *phase = Phase::Waiting;
    }
    let Some(model) = world.get::<SessionOf>(session).map(|of| of.0) else { return };
    if let Some(mut queue) = world.get_mut::<SessionQueue>(model) {
        queue.enter(session);
    }
}
