//! Admission: makes up the next wave of each model from its sessions.
//!
//! Sessions that decode come first, a row each; prompts fill what room is left, in chunks. A session without a page
//! waits. When nobody can move, context is given up and computed again later, never lost: first that of sessions at
//! rest, then that of the youngest session at work. Only a session that the whole arena cannot hold is finished.

use crate::load::LoadFailed;
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, BlockTable, ContextCursor, FinishReason, KvPage, KvPool, LeafRun, LogitsWanted, ModelConfig,
    PageOf, Pages, Phase, Request, SessionEvent, SessionEventKind, Sessions, TokenHistory, Wave, WaveOf,
    WaveSpan,
};
use weft_platform::PAGE;

/// How waves are made up.
#[derive(Resource, Clone, Copy, Debug)]
pub struct AdmitOptions {
    /// Most rows of a wave.
    pub max_rows: usize,
}

impl Default for AdmitOptions {
    fn default() -> Self {
        Self { max_rows: 512 }
    }
}

/// Most rows of a wave whose whole logits a caller may keep: bounds the memory of the head's output.
const MAX_KEPT_ROWS: usize = 64;

/// Where the next wave starts in the list of sessions, so that all get their turn. A component of the model.
#[derive(Component, Debug, Default)]
pub struct AdmitCursor(usize);

/// What admission reads and writes of a session.
#[derive(bevy_ecs::query::QueryData)]
#[query_data(mutable)]
pub struct AdmitSession {
    history: &'static TokenHistory,
    cursor: &'static mut ContextCursor,
    phase: &'static mut Phase,
    table: &'static mut BlockTable,
    leaf: &'static LeafRun,
    request: &'static Request,
    wanted: Option<&'static LogitsWanted>,
}

/// Fills idle waves. Runs in the set `Admit`.
pub fn admit(
    mut commands: Commands<'_, '_>,
    options: Res<'_, AdmitOptions>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf)>,
    mut models: Query<
        '_,
        '_,
        (&ModelConfig, &mut KvPool, &mut AdmitCursor, Option<&Sessions>, Option<&LoadFailed>),
    >,
    mut sessions: Query<'_, '_, AdmitSession>,
    mut runs: Query<'_, '_, &Pages>,
    mut events: MessageWriter<'_, SessionEvent>,
) {
    for (mut wave, of) in &mut waves {
        let Ok((_, mut pool, mut turn, Some(list), failed)) = models.get_mut(of.0) else {
            continue;
        };
        if failed.is_some() {
            finish_all(list, &mut sessions, &mut events);
            wave.clear();
            continue;
        }
        if wave.at != AtLayer::Idle {
            continue;
        }
        let list = list.entities();
        let mut admission = Admission {
            model: of.0,
            room: options.max_rows.max(1),
            wave: &mut wave,
            pool: &mut pool,
            starved: None,
        };
        // Two rounds over the sessions: those with a single row to pass, then the rest.
        for decoding in [true, false] {
            for step in 0..list.len() {
                let at = (turn.0 + step) % list.len();
                let Ok(mut session) = sessions.get_mut(list[at]) else {
                    continue;
                };
                let remaining = session.history.0.len().saturating_sub(session.cursor.computed);
                if !session.phase.is_active() || (remaining == 1) != decoding {
                    continue;
                }
                if let Some(reason) = admission.join(list[at], &mut session, &mut commands) {
                    *session.phase = Phase::Finished(reason);
                    events
                        .write(SessionEvent { session: list[at], kind: SessionEventKind::Finished(reason) });
                }
                if admission.room == 0 {
                    turn.0 = if decoding { at + 1 } else { turn.0 };
                    break;
                }
            }
        }
        let starved = admission.starved;
        if wave.rows() > 0 {
            wave.at = AtLayer::Embed;
        } else if let Some(starved) = starved {
            make_room(starved, list, &mut sessions, &mut runs, &mut commands, &mut events);
        }
    }
}

/// A wave being made up.
struct Admission<'a> {
    model: Entity,
    room: usize,
    wave: &'a mut Wave,
    pool: &'a mut KvPool,
    starved: Option<Entity>,
}

impl Admission<'_> {
    /// Adds rows of a session, or says why it can never go on.
    fn join(
        &mut self,
        entity: Entity,
        session: &mut AdmitSessionItem<'_, '_>,
        commands: &mut Commands<'_, '_>,
    ) -> Option<FinishReason> {
        let (start, end) = (session.cursor.computed, session.history.0.len());
        let capacity = self.pool.capacity().saturating_mul(PAGE);
        if end > session.cursor.limit.min(capacity) {
            return Some(FinishReason::ContextFull);
        }
        let chunk =
            if session.request.prefill_chunk == 0 { usize::MAX } else { session.request.prefill_chunk };
        let mut rows = (end - start).min(self.room).min(chunk);
        while session.table.0.len() * PAGE < start + rows {
            let Some(slot) = self.pool.take() else { break };
            session.table.0.push(slot);
            commands.spawn((KvPage { slot, pool: self.model }, PageOf(session.leaf.0)));
        }
        rows = rows.min((session.table.0.len() * PAGE).saturating_sub(start));
        let wanted = session.wanted.map_or(&[][..], |wanted| &wanted.positions[..]);
        let first_wanted = wanted.partition_point(|position| *position < start);
        if let Some(too_many) = wanted.get(first_wanted + MAX_KEPT_ROWS) {
            rows = rows.min(too_many - start);
        }
        if rows == 0 {
            self.starved = self.starved.or(Some(entity));
            *session.phase = Phase::Waiting;
            return None;
        }
        let complete = start + rows == end;
        *session.phase = if complete && rows == 1 { Phase::Decoding } else { Phase::Prefilling };
        self.push(entity, session, start..start + rows, first_wanted, complete);
        self.room -= rows;
        None
    }

    fn push(
        &mut self,
        entity: Entity,
        session: &AdmitSessionItem<'_, '_>,
        positions: core::ops::Range<usize>,
        first_wanted: usize,
        complete: bool,
    ) {
        let wave = &mut *self.wave;
        let (first_row, first_table, first_logit) = (wave.rows(), wave.tables.len(), wave.logit_rows.len());
        let pages = positions.end.div_ceil(PAGE);
        wave.tables.extend_from_slice(&session.table.0[..pages]);
        wave.tokens.extend_from_slice(&session.history.0[positions.clone()]);
        for position in positions.clone() {
            wave.positions.push(position as u32);
            wave.slots.push(session.table.0[position / PAGE]);
        }
        let row_of = |position: usize| (first_row + position - positions.start) as u32;
        if let Some(wanted) = session.wanted {
            let wanted =
                wanted.positions[first_wanted..].iter().take_while(|position| **position < positions.end);
            wave.logit_rows.extend(wanted.map(|position| row_of(*position)));
        }
        let last = row_of(positions.end - 1);
        let samples = complete && session.request.max_tokens > 0;
        if samples && wave.logit_rows[first_logit..].last() != Some(&last) {
            wave.logit_rows.push(last);
        }
        wave.spans.push(WaveSpan {
            session: entity,
            rows: first_row..wave.rows(),
            start: positions.start,
            table: first_table..wave.tables.len(),
            logits: first_logit..wave.logit_rows.len(),
            epoch: session.cursor.epoch,
            complete,
        });
    }
}

/// Gives up somebody's cached context, since nobody could move. It is computed again when they are next admitted.
fn make_room(
    starved: Entity,
    list: &[Entity],
    sessions: &mut Query<'_, '_, AdmitSession>,
    runs: &mut Query<'_, '_, &Pages>,
    commands: &mut Commands<'_, '_>,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    let holds = |entity: &Entity, active: bool| {
        *entity != starved
            && sessions.get(*entity).is_ok_and(|s| s.phase.is_active() == active && !s.table.0.is_empty())
    };
    let at_rest = list.iter().copied().find(|entity| holds(entity, false));
    let victim = at_rest.or_else(|| list.iter().rev().copied().find(|entity| holds(entity, true)));
    match victim {
        Some(victim) => {
            if let Ok(mut session) = sessions.get_mut(victim) {
                truncate_context(0, session.leaf.0, &mut session.table, &mut session.cursor, runs, commands);
            }
        }
        None => {
            if let Ok(mut session) = sessions.get_mut(starved) {
                let reason = FinishReason::ContextFull;
                *session.phase = Phase::Finished(reason);
                events.write(SessionEvent { session: starved, kind: SessionEventKind::Finished(reason) });
            }
        }
    }
}

/// Keeps the first tokens of a session's cached context: `(session, tokens to keep)`.
pub fn truncate_session(
    In((session, keep)): In<(Entity, usize)>,
    mut sessions: Query<'_, '_, (&LeafRun, &mut BlockTable, &mut ContextCursor)>,
    mut runs: Query<'_, '_, &Pages>,
    mut commands: Commands<'_, '_>,
) {
    if let Ok((leaf, mut table, mut cursor)) = sessions.get_mut(session) {
        truncate_context(keep, leaf.0, &mut table, &mut cursor, &mut runs, &mut commands);
    }
}

/// Keeps the first `keep` tokens of a cached context and gives the pages behind them back, last page first.
fn truncate_context(
    keep: usize,
    run: Entity,
    table: &mut BlockTable,
    cursor: &mut ContextCursor,
    runs: &mut Query<'_, '_, &Pages>,
    commands: &mut Commands<'_, '_>,
) {
    if keep >= cursor.computed {
        return;
    }
    cursor.computed = keep;
    cursor.epoch = cursor.epoch.wrapping_add(1);
    let pages = keep.div_ceil(PAGE);
    table.0.truncate(pages);
    if let Ok(held) = runs.get(run) {
        for page in held.entities().iter().skip(pages).rev() {
            commands.entity(*page).try_despawn();
        }
    }
}

fn finish_all(
    list: &Sessions,
    sessions: &mut Query<'_, '_, AdmitSession>,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    for entity in list.entities() {
        let Ok(mut session) = sessions.get_mut(*entity) else {
            continue;
        };
        if session.phase.is_active() {
            let reason = FinishReason::ModelFailed;
            *session.phase = Phase::Finished(reason);
            events.write(SessionEvent { session: *entity, kind: SessionEventKind::Finished(reason) });
        }
    }
}
