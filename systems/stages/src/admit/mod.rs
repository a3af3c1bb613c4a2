//! Admission: composes the next wave of each model from its sessions.
//!
//! Sessions that decode come first, with one row each. Prompts fill the rows that are left, in chunks, and a share of
//! the rows is reserved for them. A session without a page waits. If no session can advance, a session's context is
//! preempted and computed again later, never lost (see `room`). A text of an encoder is never split, because its rows
//! attend to each other. A session is finished only if the whole arena cannot hold it.

mod room;

pub use room::truncate_session;

use crate::fail::LoadFailed;
use crate::sample::{Ending, SessionSampler, wanted_positions};
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use core::ops::Range;
use room::{Pressure, make_room};
use weft_components::{
    AdaptedRows, AtLayer, BlockTable, ContextCursor, DEVICE_TOKEN, EmbeddingWanted, FinishReason, KvPage,
    KvPool, LeafRun, LogitsKept, LogitsWanted, ModelConfig, Output, PageOf, Pages, Phase, ReadsLogits,
    Request, SessionEvent, SessionOf, Sessions, StepsAhead, TickWork, TokenHistory, UsesAdapter, Wave,
    WaveLimits, WaveOf, WaveSpan, Waves,
};
use weft_platform::PAGE;

/// How waves are composed.
#[derive(Resource, Clone, Copy, Debug)]
pub struct AdmitOptions {
    /// Largest number of rows of a wave.
    pub max_rows: usize,
}

impl Default for AdmitOptions {
    fn default() -> Self {
        Self { max_rows: 512 }
    }
}

/// Largest number of rows of a wave whose whole logits a caller may keep. It bounds the memory of the head's output.
const MAX_KEPT_ROWS: usize = 64;
/// Divisor of a wave's rows: this share is reserved for prompts while sessions decode.
const PROMPT_SHARE: usize = 4;

/// The order in which sessions are admitted. Replaces the model's own order, which takes sessions in turn. A component
/// of the model that a system in the set `Admit`, before [`admit`], writes. Of the sessions that decode, and then of
/// those that prefill, the first in this list join a wave first. Sessions that are not in it wait.
#[derive(Component, Clone, Debug, Default)]
pub struct AdmissionOrder(pub Vec<Entity>);

/// State of the turn-taking between sessions. A component of the model.
#[derive(Component, Debug, Default)]
pub struct AdmitCursor {
    /// Where the next wave starts in the list of sessions.
    first: usize,
    /// True if the last wave that was too small for both kinds carried a decoding session.
    decoded: bool,
    /// Number of waves composed so far.
    waves: u64,
    /// True if a wave has been composed and has not started.
    standing: bool,
}

/// The components of a session that admission reads and writes.
#[derive(bevy_ecs::query::QueryData)]
#[query_data(mutable)]
pub struct AdmitSession {
    history: &'static TokenHistory,
    of: &'static SessionOf,
    cursor: &'static mut ContextCursor,
    phase: &'static mut Phase,
    table: &'static mut BlockTable,
    leaf: &'static LeafRun,
    request: &'static Request,
    sampler: &'static mut SessionSampler,
    output: &'static mut Output,
    wanted: Option<&'static LogitsWanted>,
    kept: Option<&'static LogitsKept>,
    embedding: Option<&'static EmbeddingWanted>,
    adapter: Option<&'static UsesAdapter>,
    reads_logits: Has<ReadsLogits>,
}

impl AdmitSessionItem<'_, '_> {
    /// Number of tokens that may join a wave: those of the history, and those chosen on a device whose ids have not
    /// been read, if up to `ahead` such steps may be in flight.
    fn end(&self, ahead: usize) -> usize {
        let cursor = &self.cursor;
        let left = self.request.max_tokens.saturating_sub(self.output.tokens.len());
        let next = cursor.unread > 0 && cursor.unread <= ahead && cursor.unread < left && self.runs_ahead();
        self.history.0.len() + if next { cursor.unread } else { 0 }
    }

    /// Returns true if the next step can start before the token of this one has been read back.
    fn runs_ahead(&self) -> bool {
        !self.reads_logits && self.sampler.runs_ahead()
    }

    /// Tokens of these that are not in any wave yet.
    fn remaining(&self, ahead: usize) -> usize {
        self.end(ahead).saturating_sub(self.cursor.scheduled)
    }

    fn finish(&mut self, entity: Entity, reason: FinishReason, events: &mut MessageWriter<'_, SessionEvent>) {
        Ending { sampler: &mut self.sampler, output: &mut self.output, phase: &mut self.phase }
            .finish(entity, reason, events);
    }
}

/// Fills idle waves. The next wave of a model is filled when the one before has started. Runs in the set `Admit`.
pub fn admit(
    mut commands: Commands<'_, '_>,
    options: Res<'_, AdmitOptions>,
    mut work: ResMut<'_, TickWork>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf)>,
    mut models: Query<
        '_,
        '_,
        (
            &ModelConfig,
            &WaveLimits,
            &mut KvPool,
            &mut AdmitCursor,
            Option<&StepsAhead>,
            &Waves,
            Option<&Sessions>,
            Option<&AdmissionOrder>,
        ),
        Without<LoadFailed>,
    >,
    failed: Query<'_, '_, &Sessions, With<LoadFailed>>,
    mut sessions: Query<'_, '_, AdmitSession>,
    runs: Query<'_, '_, &Pages>,
    mut events: MessageWriter<'_, SessionEvent>,
    mut ordered: Local<'_, Vec<Entity>>,
) {
    for (.., mut turn, _, _, _, _) in &mut models {
        turn.standing = false;
    }
    for (wave, of) in &waves {
        if let Ok((.., mut turn, _, _, _, _)) = models.get_mut(of.0) {
            turn.standing |= wave.at == AtLayer::Embed;
        }
    }
    for list in &failed {
        finish_all(list.entities(), &mut sessions, &mut events);
    }
    for (mut wave, of) in &mut waves {
        let Ok((config, limits, mut pool, mut turn, ahead, abreast, Some(list), order)) =
            models.get_mut(of.0)
        else {
            continue;
        };
        let list = list.entities();
        if wave.at != AtLayer::Idle || turn.standing {
            continue;
        }
        if order.is_some() {
            turn.first = 0;
        }
        let all = list;
        let list = match order {
            Some(order) => {
                own_sessions(&order.0, of.0, &sessions, &mut ordered);
                &ordered[..]
            }
            None => list,
        };
        let pressure = Pressure::of(list, &sessions, pool.free());
        let most = options.max_rows.clamp(1, limits.rows);
        let rounds = rounds(most, &mut turn, &pressure);
        let mut admission = Admission {
            model: of.0,
            room: 0,
            // Each wave takes its share of the sessions, so that every place has work at once.
            sessions: pressure.active.div_ceil(abreast.entities().len().max(1)),
            logits: limits.logit_rows,
            pages: limits.pages,
            ahead: ahead.map_or(0, |ahead| ahead.0),
            whole: (!config.causal).then_some(most),
            now: work.0,
            wave: &mut wave,
            pool: &mut pool,
            pressure,
            left_out: None,
            starved: Vec::new(),
        };
        for (decoding, room) in rounds {
            admission.room += room;
            for step in 0..list.len() {
                if admission.room == 0 || admission.sessions == 0 {
                    break;
                }
                let at = (turn.first + step) % list.len();
                let Ok(mut session) = sessions.get_mut(list[at]) else { continue };
                let remaining = session.remaining(admission.ahead);
                if !session.phase.is_active() || remaining == 0 || (remaining == 1) != decoding {
                    continue;
                }
                if let Some(reason) = admission.join(list[at], at, &mut session, &mut commands) {
                    session.finish(list[at], reason, &mut events);
                    work.0 += 1;
                }
                if decoding && admission.room == 0 {
                    turn.first = at + 1;
                }
            }
        }
        // A session that was left out comes first next time.
        turn.first = admission.left_out.unwrap_or(turn.first);
        let starved = core::mem::take(&mut admission.starved);
        if wave.rows() > 0 {
            wave.at = AtLayer::Embed;
            group_adapted(&mut wave);
            wave.turn = turn.waves;
            turn.waves += 1;
            turn.standing = true;
            work.0 += 1;
        }
        if !starved.is_empty() {
            work.0 +=
                make_room(&starved, wave.rows() == 0, all, &mut sessions, &runs, &mut commands, &mut events);
        }
    }
}

/// The two rounds over the sessions, `(decoding, rows)`: first sessions with a single row to compute, then the others.
/// Rows that the first round leaves go to the second.
fn rounds(rows: usize, turn: &mut AdmitCursor, pressure: &Pressure) -> [(bool, usize); 2] {
    if !pressure.prompts {
        return [(true, rows), (false, 0)];
    }
    if rows == 1 {
        turn.decoded = !turn.decoded;
        return [(turn.decoded, 1), (!turn.decoded, 0)];
    }
    let prompts = (rows / PROMPT_SHARE).max(1);
    [(true, rows - prompts), (false, prompts)]
}

/// Collects the sessions of a model that an order names, each once. An order may name sessions of other models, or a session
/// twice.
fn own_sessions(
    order: &[Entity],
    model: Entity,
    sessions: &Query<'_, '_, AdmitSession>,
    own: &mut Vec<Entity>,
) {
    let mut seen = EntityHashSet::default();
    let is_own = |entity: &Entity| sessions.get(*entity).is_ok_and(|session| session.of.0 == model);
    own.clear();
    own.extend(order.iter().filter(|entity| is_own(entity) && seen.insert(**entity)));
}

/// A wave being composed.
struct Admission<'a> {
    model: Entity,
    /// Rows that may still join.
    room: usize,
    /// Sessions that may still join.
    sessions: usize,
    /// Rows of these whose logits may be wanted.
    logits: usize,
    /// Pages of context that sessions joining from now on may have.
    pages: usize,
    /// Steps of a session that may be in flight with their tokens unread.
    ahead: usize,
    /// Largest number of rows of a wave, if a text must not be split.
    whole: Option<usize>,
    /// The current time of the clock of last use.
    now: u64,
    wave: &'a mut Wave,
    pool: &'a mut KvPool,
    pressure: Pressure,
    /// Index in the list of the first session for which no row of logits, or too few pages, were left in the wave.
    left_out: Option<usize>,
    /// Sessions that needed a page and got none. Empty, and so without memory, in the steady state.
    starved: Vec<Entity>,
}

impl Admission<'_> {
    /// Adds rows of the session at this index of the list. Returns a reason if the session can never continue.
    fn join(
        &mut self,
        entity: Entity,
        place: usize,
        session: &mut AdmitSessionItem<'_, '_>,
        commands: &mut Commands<'_, '_>,
    ) -> Option<FinishReason> {
        let (start, end) = (session.cursor.scheduled, session.end(self.ahead));
        let capacity = self.pool.capacity().saturating_mul(PAGE);
        if end > session.cursor.limit.min(capacity) {
            // The tokens that are still unread may end the request for another reason.
            return (session.cursor.unread == 0).then_some(FinishReason::ContextFull);
        }
        if self.whole.is_some_and(|most| end - start > most) {
            return Some(FinishReason::ContextFull);
        }
        if self.logits == 0
            || self.whole.is_some_and(|_| end - start > self.room)
            || (start == 0 && !self.pressure.may_start(place, session))
        {
            if self.logits == 0 {
                self.left_out.get_or_insert(place);
            }
            *session.phase = Phase::Waiting;
            return None;
        }
        let chunk = match session.request.prefill_chunk {
            chunk if chunk > 0 && self.whole.is_none() => chunk,
            _ => usize::MAX,
        };
        let mut rows = (end - start).min(self.room).min(chunk);
        if (start + rows).div_ceil(PAGE) > self.pages {
            if self.wave.rows() == 0 {
                // The session's context is too long even for a wave of its own.
                return (session.cursor.unread == 0).then_some(FinishReason::ContextFull);
            }
            self.left_out.get_or_insert(place);
            *session.phase = Phase::Waiting;
            return None;
        }
        while session.table.0.len() * PAGE < start + rows {
            let Some(slot) = self.pool.take() else { break };
            session.table.0.push(slot);
            commands.spawn((KvPage { slot, pool: self.model }, PageOf(session.leaf.0)));
        }
        let paged = (session.table.0.len() * PAGE).saturating_sub(start);
        rows = if self.whole.is_some() && paged < rows { 0 } else { rows.min(paged) };
        // Logits kept already are not kept again when a context is computed a second time.
        let kept = session.kept.map_or(0, LogitsKept::len);
        let wanted = session.wanted.and_then(|wanted| wanted.positions.get(kept..)).unwrap_or_default();
        let wanted = &wanted[wanted.partition_point(|position| *position < start)..];
        if let Some(too_many) = wanted.get(MAX_KEPT_ROWS.min(self.logits)) {
            rows = rows.min(too_many - start);
        }
        if rows == 0 {
            self.starved.push(entity);
            *session.phase = Phase::Waiting;
            return None;
        }
        self.pressure.started(session);
        session.cursor.preempted = false;
        session.cursor.used = self.now;
        session.cursor.scheduled = start + rows;
        let complete = start + rows == end;
        *session.phase = if complete && rows == 1 { Phase::Decoding } else { Phase::Prefilling };
        let positions = start..start + rows;
        let wanted = &wanted[..wanted.partition_point(|position| *position < positions.end)];
        self.push(entity, session, positions, wanted, complete);
        self.logits = self.logits.saturating_sub(wanted.len().max(1));
        self.pages = self.pages.saturating_sub((start + rows).div_ceil(PAGE));
        self.room -= rows;
        self.sessions -= 1;
        None
    }

    fn push(
        &mut self,
        entity: Entity,
        session: &AdmitSessionItem<'_, '_>,
        positions: Range<usize>,
        wanted: &[usize],
        complete: bool,
    ) {
        let wave = &mut *self.wave;
        let (first_row, first_table, first_logit) = (wave.rows(), wave.tables.len(), wave.logit_rows.len());
        let first_state = wave.state_rows.len();
        let pages = positions.end.div_ceil(PAGE);
        wave.tables.extend_from_slice(&session.table.0[..pages]);
        for position in positions.clone() {
            let unread = || DEVICE_TOKEN | kv_place(&session.table.0, position - 1);
            wave.tokens.push(session.history.0.get(position).copied().unwrap_or_else(unread));
            wave.positions.push(position as u32);
            wave.slots.push(session.table.0[position / PAGE]);
        }
        let row_of = |position: usize| (first_row + position - positions.start) as u32;
        wave.logit_rows.extend(wanted.iter().map(|position| row_of(*position)));
        let last = row_of(positions.end - 1);
        let samples = complete && session.request.max_tokens > 0;
        if samples && wave.logit_rows[first_logit..].last() != Some(&last) {
            wave.logit_rows.push(last);
        }
        if let Some(embedding) = session.embedding {
            let wanted = wanted_positions(embedding);
            let here = wanted.start.max(positions.start)..wanted.end.min(positions.end);
            wave.state_rows.extend(here.map(row_of));
        }
        wave.spans.push(WaveSpan {
            session: entity,
            rows: first_row..wave.rows(),
            start: positions.start,
            table: first_table..wave.tables.len(),
            logits: first_logit..wave.logit_rows.len(),
            states: first_state..wave.state_rows.len(),
            epoch: session.cursor.epoch,
            complete,
            adapter: session.adapter.copied(),
        });
    }
}

/// Index of a position's key and value in the cache: slot times page length plus offset. A token chosen on a device is
/// kept there at the index of the row that it was chosen from.
fn kv_place(table: &[u32], position: usize) -> u32 {
    table[position / PAGE] * PAGE as u32 + (position % PAGE) as u32
}

/// Lists the rows of a wave that use adapters, grouped by adapter.
fn group_adapted(wave: &mut Wave) {
    let Wave { spans, adapters, .. } = wave;
    for first in spans.iter().filter_map(|span| span.adapter) {
        if adapters.groups.iter().any(|group| group.adapter == first.adapter) {
            continue;
        }
        let start = adapters.rows.len();
        for span in spans.iter() {
            let Some(used) = span.adapter.filter(|used| used.adapter == first.adapter) else { continue };
            adapters.rows.extend(span.rows.clone().map(|row| row as u32));
            adapters.scales.extend(span.rows.clone().map(|_| used.scale));
        }
        let places = start..adapters.rows.len();
        adapters.groups.push(AdaptedRows { adapter: first.adapter, places });
    }
}

fn finish_all(
    list: &[Entity],
    sessions: &mut Query<'_, '_, AdmitSession>,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    for entity in list {
        let Ok(mut session) = sessions.get_mut(*entity) else { continue };
        if session.phase.is_active() {
            session.finish(*entity, FinishReason::ModelFailed, events);
        }
    }
}
