//! Adding rows of a session to a wave that is being composed.

use super::decode_cost::{Drafted, Kind, joining};
use super::room::Pressure;

use crate::kv::{self, PartialPage, PrefixTree};
use crate::sample::{Ending, SessionSampler, wanted_positions};
use bevy_ecs::prelude::*;
use core::ops::Range;
use weft_components::{
    BlockTable, ContextCursor, DEVICE_TOKEN, Draft, DraftedBy, EmbeddingWanted, FinishReason, LogitsKept,
    LogitsWanted, Output, Phase, ReadsLogits, Request, SessionEvent, SessionEventKind, TickWork,
    TokenHistory, TokenMask, TurnStarts, UsesAdapter, Wave, WaveKv, WaveSpan, WhenFull,
};
use weft_platform::PAGE;

/// Largest number of rows of a wave whose whole logits a caller may keep. It bounds the memory of the head's output.
const MAX_KEPT_ROWS: usize = 64;

/// The components of a session that admission reads and writes.
#[derive(bevy_ecs::query::QueryData)]
#[query_data(mutable)]
pub struct AdmitSession {
    history: &'static TokenHistory,
    cursor: &'static mut ContextCursor,
    phase: &'static mut Phase,
    table: &'static BlockTable,
    request: &'static Request,
    sampler: &'static mut SessionSampler,
    output: &'static mut Output,
    wanted: Option<&'static LogitsWanted>,
    kept: Option<&'static LogitsKept>,
    embedding: Option<&'static EmbeddingWanted>,
    adapter: Option<&'static UsesAdapter>,
    reads_logits: Has<ReadsLogits>,
    masked: Has<TokenMask>,
    draft: Option<&'static mut Draft>,
    by_model: Has<DraftedBy>,
}

impl AdmitSessionItem<'_, '_> {
    /// Number of tokens that may join a wave: those of the history, and those chosen on a device whose ids have not
    /// been read, if up to `ahead` such steps may be in flight.
    fn end(&self, ahead: usize) -> usize {
        let cursor = &self.cursor;
        let pending = self.by_model && self.draft.as_ref().is_some_and(|draft| draft.pending);
        if cursor.drafts > 0 || pending {
            // How many tokens there are is known when the drafts have been verified.
            return cursor.scheduled;
        }
        let left = self.request.max_tokens.saturating_sub(self.output.tokens.len());
        let next = cursor.unread > 0 && cursor.unread <= ahead && cursor.unread < left && self.runs_ahead();
        self.history.0.len() + if next { cursor.unread } else { 0 }
    }

    /// Returns true if the next step can start before the token of this one has been read back.
    fn runs_ahead(&self) -> bool {
        !self.reads_logits && !self.by_model && self.sampler.runs_ahead()
    }

    /// Positions whose logits are wanted and have not been kept. Those that were are not kept again when a context is
    /// computed a second time.
    fn wanted(&self) -> &[usize] {
        let kept = self.kept.map_or(0, LogitsKept::len);
        self.wanted.and_then(|wanted| wanted.positions.get(kept..)).unwrap_or_default()
    }

    /// Drafted tokens that may join with the session's next row: none if what is chosen, or whether, depends on more than
    /// the logits and the request.
    fn drafted(&self, vocabulary: usize) -> usize {
        let free = !self.masked && !self.reads_logits && self.wanted.is_none() && self.embedding.is_none();
        let left = self.request.max_tokens.saturating_sub(self.output.tokens.len() + self.cursor.unread + 1);
        let known = |token: &&u32| (**token as usize) < vocabulary;
        let drafted = self.draft.as_ref().filter(|_| free);
        let drafted = drafted.map_or(0, |draft| draft.tokens.iter().take_while(known).count());
        // Those before were chosen on a device and are not read yet.
        drafted.saturating_sub(self.cursor.unread).min(left).min(self.request.draft)
    }

    /// The position up to which cached contexts may be taken over: rows whose results are wanted are computed.
    fn first_wanted(&self, end: usize) -> usize {
        if self.embedding.is_some() {
            return 0;
        }
        let last = end.saturating_sub(1);
        self.wanted().first().map_or(last, |first| last.min(*first))
    }
}

/// What admission wants to know of a session.
pub(super) struct Waiting {
    /// Tokens that have joined no wave.
    pub(super) remaining: usize,
    /// True if rows of it are in flight.
    pub(super) in_flight: bool,
    /// True if its context was preempted.
    pub(super) preempted: bool,
    /// Pages of its context.
    pub(super) pages: usize,
}

/// A wave being composed.
pub(super) struct Admission<'a> {
    pub(super) model: Entity,
    /// Tokens of the model's vocabulary.
    pub(super) vocabulary: usize,
    pub(super) sessions: &'a mut QueryState<AdmitSession>,
    /// Number of the wave.
    pub(super) number: u64,
    /// Rows that may still join.
    pub(super) room: usize,
    /// Sessions that may still join.
    pub(super) places: usize,
    /// Rows of these whose logits may be wanted.
    pub(super) logits: usize,
    /// Pages of context that sessions joining from now on may have.
    pub(super) pages: usize,
    /// Steps of a session that may be in flight with their tokens unread.
    pub(super) ahead: usize,
    /// Largest number of rows of a wave, if a text must not be split.
    pub(super) whole: Option<usize>,
    /// The current time of the clock of last use.
    pub(super) now: u64,
    pub(super) wave: Wave,
    pub(super) pressure: Pressure,
    /// What the sessions that decode have drafted.
    pub(super) drafted: Drafted,
    /// The probability from which drafted tokens join. `None` if none do.
    pub(super) level: Option<f64>,
    /// What has joined the wave.
    pub(super) kind: Kind,
    /// The first session that needed a page and got none.
    pub(super) starved: Option<Entity>,
    /// True if a session was left out because no row of logits, or too few pages, were left in the wave.
    pub(super) left_out: bool,
}

/// What came of a session's turn.
pub(super) enum Joined {
    /// This many rows have joined.
    Rows(usize),
    /// It waits for another wave.
    Waits,
    /// It can never continue.
    Never(FinishReason),
}

impl Admission<'_> {
    /// `None` if the session has no request in progress.
    pub(super) fn look(&mut self, world: &mut World, session: Entity) -> Option<Waiting> {
        let item = self.sessions.get_mut(world, session).ok().filter(|item| item.phase.is_active())?;
        let remaining = item.end(self.ahead).saturating_sub(item.cursor.scheduled);
        let in_flight = item.cursor.scheduled > item.cursor.computed || item.cursor.unread > 0;
        let (preempted, pages) = (item.cursor.preempted, item.table.pages());
        if remaining == 1 {
            let confidence = item.draft.as_ref().map_or(0.0, |draft| draft.confidence);
            self.drafted.add(confidence, item.cursor.unread, item.drafted(self.vocabulary));
        }
        Some(Waiting { remaining, in_flight, preempted, pages })
    }

    fn wait(&mut self, world: &mut World, session: Entity) -> Joined {
        if let Ok(mut item) = self.sessions.get_mut(world, session) {
            *item.phase = Phase::Waiting;
        }
        Joined::Waits
    }

    /// Adds rows of a session.
    pub(super) fn join(&mut self, world: &mut World, session: Entity) -> Joined {
        let Ok(item) = self.sessions.get_mut(world, session) else { return Joined::Waits };
        let (start, end) = (item.cursor.scheduled, item.end(self.ahead));
        let (limit, unread, first_wanted) = (item.cursor.limit, item.cursor.unread, item.first_wanted(end));
        let chunk = match item.request.prefill_chunk {
            chunk if chunk > 0 && self.whole.is_none() => chunk,
            _ => usize::MAX,
        };
        // The tokens that are still unread may end the request for another reason.
        let never = |reason| if unread == 0 { Joined::Never(reason) } else { Joined::Waits };
        if end > limit {
            let shifts = unread == 0 && shift(world, session, limit);
            return if shifts { self.wait(world, session) } else { never(FinishReason::ContextFull) };
        }
        if self.whole.is_some_and(|most| end - start > most) {
            return Joined::Never(FinishReason::ContextFull);
        }
        if self.logits == 0 || self.whole.is_some_and(|_| end - start > self.room) {
            self.left_out |= self.logits == 0;
            return self.wait(world, session);
        }
        let starts = start == 0;
        if starts && !self.pressure.may_start(world, self.model, session) {
            return self.wait(world, session);
        }
        let prompt = end - start > 1;
        let mut start = start;
        // A page that the wave copies may be free by now, and must not be written before.
        if starts && prompt && self.wave.kv.iter().all(|kv| kv.copies.is_empty()) {
            kv::swap_in(world, session);
        }
        if prompt {
            kv::attach(world, session, first_wanted);
            start = scheduled(world, session);
        }
        if (start + 1).div_ceil(PAGE) > self.pages {
            if self.wave.rows() == 0 {
                // The session's context is too long even for a wave of its own.
                return never(FinishReason::ContextFull);
            }
            self.left_out = true;
            return self.wait(world, session);
        }
        let least = if self.whole.is_some() { end } else { start + 1 };
        if kv::reserve(world, session, least) < least {
            self.starved.get_or_insert(session);
            return self.wait(world, session);
        }
        if prompt {
            match kv::attach_part(world, session, first_wanted, self.number) {
                PartialPage::None => {}
                PartialPage::NextWave => return self.wait(world, session),
                PartialPage::Copied { from, to } => self.copy(world, from, to),
            }
            start = scheduled(world, session);
        }
        let most = self.pages.saturating_mul(PAGE).saturating_sub(start);
        let rows = (end - start).min(self.room).min(chunk).min(most);
        let rows = rows.min(kv::reserve(world, session, start + rows) - start);
        let drafts = if prompt { 0 } else { self.drafts(world, session, start, most) };
        let rows = self.push(world, session, start..start + rows + drafts, end, drafts);
        kv::append_rows(world, session, start + rows, self.number);
        if prompt {
            self.kind = Kind::Prompts;
        }
        if prompt && let Some(mut tree) = world.get_mut::<PrefixTree>(self.model) {
            tree.stats.lookups += u64::from(starts);
            tree.stats.hits += u64::from(starts && start > 0);
            tree.stats.prefilled_tokens += rows as u64;
        }
        Joined::Rows(rows)
    }

    /// Number of drafted tokens that join with the row at `start` of a session, which may have `most` rows.
    fn drafts(&mut self, world: &mut World, session: Entity, start: usize, most: usize) -> usize {
        let Ok(item) = self.sessions.get_mut(world, session) else { return 0 };
        let limit = item.cursor.limit.saturating_sub(start + 1);
        let drafted =
            item.drafted(self.vocabulary).min(limit).min(self.room - 1).min(self.logits - 1).min(most - 1);
        let confidence = item.draft.as_ref().map_or(0.0, |draft| draft.confidence);
        let unread = item.cursor.unread;
        let drafts = self.level.map_or(0, |level| joining(level, confidence, unread, drafted));
        if drafts == 0 {
            return 0;
        }
        let granted = (kv::reserve(world, session, start + 1 + drafts) - start - 1).min(drafts);
        if granted > 0 {
            self.kind = Kind::Drafted;
        }
        granted
    }

    /// Has the wave copy the first pages of a run.
    fn copy(&mut self, world: &World, from: Entity, to: Entity) {
        let pairs = kv::first_slots(world, from).zip(kv::first_slots(world, to));
        for (class, pair) in self.wave.kv.iter_mut().zip(pairs) {
            class.copies.push(pair);
        }
    }

    /// Adds the rows at `positions` of a session whose tokens end at `end`, or fewer if too many logits are wanted. The last
    /// `drafts` rows are drafted tokens. Returns the number of rows.
    fn push(
        &mut self,
        world: &mut World,
        session: Entity,
        positions: Range<usize>,
        end: usize,
        drafts: usize,
    ) -> usize {
        let Ok(mut item) = self.sessions.get_mut(world, session) else { return 0 };
        let Range { start, end: mut last } = positions;
        let wanted = item.wanted();
        let wanted = &wanted[wanted.partition_point(|position| *position < start)..];
        if let Some(too_many) = wanted.get(MAX_KEPT_ROWS.min(self.logits)) {
            last = last.min(*too_many);
        }
        let wanted = &wanted[..wanted.partition_point(|position| *position < last)];
        let complete = last - drafts == end;

        let wave = &mut self.wave;
        let (first_row, first_logit, first_state) =
            (wave.rows(), wave.logit_rows.len(), wave.state_rows.len());
        let first_table = wave.pages();
        let pages = last.div_ceil(PAGE);
        for (WaveKv { tables, slots, .. }, table) in wave.kv.iter_mut().zip(&item.table.0) {
            tables.extend_from_slice(&table[..pages]);
            slots.extend((start..last).map(|position| table[position / PAGE]));
        }
        // Pages that these rows complete.
        for (class, to) in wave.kv.iter_mut().zip(&item.table.0) {
            if let Some(from) = class.recent.and_then(|recent| item.table.0.get(recent)) {
                class.seals.extend((start / PAGE..last / PAGE).map(|page| (from[page], to[page])));
            }
        }
        let known = item.history.0.len();
        for position in start..last {
            let unread = || DEVICE_TOKEN | kv_place(item.table, position - 1);
            let drafted =
                || item.draft.as_ref().and_then(|draft| draft.tokens.get(position - known)).copied();
            let token = match item.history.0.get(position).copied() {
                Some(token) => token,
                None if position >= end => drafted().unwrap_or_default(),
                None => unread(),
            };
            wave.tokens.push(token);
            wave.positions.push(position as u32);
        }
        let row_of = |position: usize| (first_row + position - start) as u32;
        wave.logit_rows.extend(wanted.iter().map(|position| row_of(*position)));
        let samples = complete && item.request.max_tokens > 0;
        let first_chosen = row_of(last - 1 - drafts);
        if samples && wave.logit_rows[first_logit..].last() != Some(&first_chosen) {
            wave.logit_rows.push(first_chosen);
        }
        wave.logit_rows.extend((last - drafts..last).map(row_of));
        if let Some(embedding) = item.embedding {
            let wanted = wanted_positions(embedding);
            let here = wanted.start.max(start)..wanted.end.min(last);
            wave.state_rows.extend(here.map(row_of));
        }
        let (wanted, pages_used) = (wanted.len(), pages);
        wave.spans.push(WaveSpan {
            session,
            rows: first_row..wave.rows(),
            start,
            table: first_table..wave.pages(),
            logits: first_logit..wave.logit_rows.len(),
            states: first_state..wave.state_rows.len(),
            epoch: item.cursor.epoch,
            complete,
            drafts,
            adapter: item.adapter.copied(),
        });

        if core::mem::take(&mut item.cursor.preempted) {
            self.pressure.started();
        }
        item.cursor.used = self.now;
        item.cursor.scheduled = last;
        item.cursor.drafts = drafts;
        if let Some(draft) = &mut item.draft {
            // What is verified when the wave comes back. Tokens that are not read yet come before.
            let before = end - known.min(end);
            let before = before.min(draft.tokens.len());
            draft.tokens.drain(..before);
            draft.tokens.truncate(drafts);
            // A drafter may write other tokens before these have been verified.
            let Draft { tokens, in_flight, .. } = &mut **draft;
            in_flight.clone_from(tokens);
        }
        *item.phase =
            if complete && last - start == 1 + drafts { Phase::Decoding } else { Phase::Prefilling };
        self.logits = self.logits.saturating_sub(wanted.max(1) + drafts);
        self.pages = self.pages.saturating_sub(pages_used);
        self.room -= last - start;
        self.places -= 1;
        last - start
    }

    /// Ends the request of a session.
    pub(super) fn finish(&mut self, world: &mut World, session: Entity, reason: FinishReason) {
        finish(world, self.sessions, session, reason);
    }
}

fn scheduled(world: &World, session: Entity) -> usize {
    world.get::<ContextCursor>(session).map_or(0, |cursor| cursor.scheduled)
}

/// Drops the oldest tokens of a session whose context is full, if its request asks for that. Returns false if it does not.
fn shift(world: &mut World, session: Entity, limit: usize) -> bool {
    let when_full = world.get::<Request>(session).map(|request| request.when_full);
    let Some(WhenFull::Shift { keep }) = when_full else { return false };
    let keep = keep.min(limit / 2);
    let length = world.get::<TokenHistory>(session).map_or(0, |history| history.0.len());
    // A session that a program has put together itself may have none.
    let (turns, none) = (world.get::<TurnStarts>(session), TurnStarts::default());
    let end = turns.unwrap_or(&none).end_of_oldest(keep, length);
    let dropped = end.saturating_sub(keep);
    // Too small a context to go on in.
    if limit < 4 || dropped == 0 {
        return false;
    }
    kv::truncate_session(world, session, keep);
    if let Some(mut history) = world.get_mut::<TokenHistory>(session) {
        history.0.drain(keep..end);
    }
    if let Some(mut turns) = world.get_mut::<TurnStarts>(session) {
        turns.drop(keep..end);
    }
    world.write_message(SessionEvent { session, kind: SessionEventKind::Shifted(dropped) });
    if let Some(mut work) = world.get_resource_mut::<TickWork>() {
        work.0 += 1;
    }
    true
}

/// Ends the request of a session.
pub(super) fn finish(
    world: &mut World,
    sessions: &mut QueryState<AdmitSession>,
    session: Entity,
    reason: FinishReason,
) {
    let Ok(mut item) = sessions.get_mut(world, session) else { return };
    if !item.phase.is_active() {
        return;
    }
    Ending { sampler: &mut item.sampler, output: &mut item.output, phase: &mut item.phase }.end(reason);
    world.write_message(SessionEvent { session, kind: SessionEventKind::Finished(reason) });
}

/// Where a device keeps the token that was chosen from the row at a position: its place in the KV cache.
fn kv_place(table: &BlockTable, position: usize) -> u32 {
    let slot = table.0.first().map_or(0, |table| table[position / PAGE]);
    slot * PAGE as u32 + (position % PAGE) as u32
}
