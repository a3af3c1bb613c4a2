//! The stage `Sample`: chooses tokens from logits, turns tokens into text, and ends requests.

use super::embedding::{StateRows, keep_states};
use super::request::{Ending, SessionSampler};
use super::{Choice, SampleBuffers, token_logprob};
use crate::admit::SessionQueue;
use crate::host::HostCpu;
use crate::text::ModelTokenizer;
use bevy_ecs::prelude::*;
use web_time::Instant;
use weft_components::{
    AtLayer, Chosen, ContextCursor, Draft, EmbeddingKept, EmbeddingWanted, FinishReason, KeepLogits,
    LogitsKept, LogitsWanted, Model, ModelConfig, Output, Phase, ReadbackOf, ReadsLogits, Request,
    SessionEvent, SessionEventKind, SessionOf, TickWork, TokenHistory, TokenLogprob, Wave, WaveOf, WaveSpan,
};
use weft_platform::Cpu;
use weft_text::Tokenizer;

/// Puts a request back to where it was: appends tokens that were its answer, and sets the number of random numbers drawn.
/// Sends no messages.
pub fn replay_answer(
    In((entity, tokens, draws)): In<(Entity, Vec<u32>, u64)>,
    models: Query<'_, '_, &ModelTokenizer>,
    mut sessions: Query<'_, '_, (SampledSession, &SessionOf)>,
) {
    let Ok((mut session, of)) = sessions.get_mut(entity) else { return };
    let tokenizer = models.get(of.0).ok().map(|tokenizer| &*tokenizer.0);
    for token in tokens {
        append(&mut session, Some((token, None)), tokenizer);
    }
    session.sampler.sampler.set_draws(draws);
}

/// The components of a session that the stage reads and writes.
#[derive(bevy_ecs::query::QueryData)]
#[query_data(mutable)]
pub struct SampledSession {
    history: &'static mut TokenHistory,
    pub(crate) cursor: &'static mut ContextCursor,
    phase: &'static mut Phase,
    pub(crate) request: &'static Request,
    pub(crate) sampler: &'static mut SessionSampler,
    output: &'static mut Output,
    pub(crate) wanted: Option<&'static LogitsWanted>,
    pub(crate) reads_logits: Has<ReadsLogits>,
    kept: Option<&'static mut LogitsKept>,
    embedding: Option<(&'static EmbeddingWanted, &'static mut EmbeddingKept)>,
    draft: Option<&'static mut Draft>,
}

/// Rows of logits of a wave.
#[derive(Clone, Copy)]
pub struct LogitRows<'a> {
    /// `[rows, vocabulary]`.
    pub logits: &'a [f32],
    /// The wave's row of each row of logits.
    pub rows: &'a [u32],
    /// Logits in each row.
    pub vocabulary: usize,
}

impl<'a> LogitRows<'a> {
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.logits[index * self.vocabulary..][..self.vocabulary]
    }
}

impl SampledSessionItem<'_, '_> {
    /// Returns true if the rows of the span are still wanted: the session's context was not preempted or rewound since.
    fn expects(&self, span: &WaveSpan) -> bool {
        self.cursor.epoch == span.epoch
    }

    /// Returns true if a token is to be chosen from the span's last row.
    fn chooses(&self, span: &WaveSpan) -> bool {
        self.expects(span) && span.complete && self.phase.is_active() && self.request.max_tokens > 0
    }
}

/// Delivers the results of a wave to its sessions: keeps the logits and hidden states that were asked for, appends the
/// tokens that a device or a system chose or lets the samplers choose them, on all threads, and ends finished requests.
/// Rows of a session that was closed or preempted since are dropped.
fn deliver(
    cpu: &Cpu,
    wave: &Wave,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
    sessions: &mut Query<'_, '_, SampledSession>,
    buffers: &mut SampleBuffers,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    let logits = LogitRows { logits: &wave.logits, rows: &wave.logit_rows, vocabulary: config.vocabulary };
    let states = StateRows { states: &wave.states, rows: &wave.state_rows, width: config.embedding };
    let chosen = |index: usize| wave.chosen.get(index).copied().unwrap_or_default();
    // The first token of each span is chosen from the row before its drafts.
    let row = |span: &WaveSpan, round: usize| (span.logits.end + round).checked_sub(1 + span.drafts);
    buffers.start(cpu, wave.spans.len(), logits.vocabulary);
    for (index, span) in wave.spans.iter().enumerate() {
        let Ok(mut session) = sessions.get_mut(span.session) else { continue };
        if chosen(index) == Chosen::Sampler
            && session.chooses(span)
            && let Some(row) = row(span, 0)
        {
            buffers.add(&mut session.sampler.sampler, row);
        }
    }
    buffers.run(cpu, logits);
    let mut verified = core::mem::take(&mut buffers.verified);
    for (index, span) in wave.spans.iter().enumerate() {
        let Ok(mut session) = sessions.get_mut(span.session) else { continue };
        // The choice's inputs have not changed since: a session has one span in a wave.
        let token = match chosen(index) {
            Chosen::Sampler if session.chooses(span) => taken(buffers.take(&mut session.sampler.sampler)),
            Chosen::Sampler => None,
            Chosen::Device(token) => token.map(|token| (token, None)),
            Chosen::System(token) => ((token as usize) < config.vocabulary).then_some((token, None)),
        };
        let goes_on =
            deliver_one(span, (logits, states), chosen(index), token, tokenizer, &mut session, events);
        if goes_on {
            verified.push(index);
        }
    }
    // Then the tokens after the drafted ones, as long as these are right.
    let mut round = 0;
    while !verified.is_empty() {
        round += 1;
        buffers.start(cpu, verified.len(), logits.vocabulary);
        for span in verified
            .iter()
            .filter(|index| chosen(**index) == Chosen::Sampler)
            .map(|index| &wave.spans[*index])
        {
            let Ok(mut session) = sessions.get_mut(span.session) else { continue };
            if let Some(row) = row(span, round) {
                buffers.add(&mut session.sampler.sampler, row);
            }
        }
        buffers.run(cpu, logits);
        verified.retain(|index| {
            let span = &wave.spans[*index];
            let Ok(mut session) = sessions.get_mut(span.session) else { return false };
            let token = match chosen(*index) {
                Chosen::Sampler => taken(buffers.take(&mut session.sampler.sampler)),
                _ => row(span, round).and_then(|row| *wave.picked.get(row)?).map(|token| (token, None)),
            };
            deliver_token(span, round, chosen(*index), token, tokenizer, &mut session, events)
        });
    }
    buffers.verified = verified;
}

/// The token of a choice. `None` if no token can be chosen.
fn taken(choice: Option<Choice>) -> Option<(u32, Option<TokenLogprob>)> {
    choice.filter(|choice| !choice.degenerate).map(|choice| (choice.token, choice.logprob))
}

/// Delivers one span, whose first chosen token, if any, is `token`. Returns true if that is the first drafted one, so that
/// another is chosen.
fn deliver_one(
    span: &WaveSpan,
    (logits, states): (LogitRows<'_>, StateRows<'_>),
    chosen: Chosen,
    token: Option<(u32, Option<TokenLogprob>)>,
    tokenizer: Option<&Tokenizer>,
    session: &mut SampledSessionItem<'_, '_>,
    events: &mut MessageWriter<'_, SessionEvent>,
) -> bool {
    if !session.expects(span) {
        return false;
    }
    let by_device = matches!(chosen, Chosen::Device(_));
    // Meanwhile the context may have been continued with cached pages.
    let computed = span.start + span.rows.len() - span.drafts;
    session.cursor.computed = session.cursor.computed.max(computed);
    if span.drafts > 0 {
        session.cursor.drafts = 0;
        session.cursor.scheduled = computed;
    }
    if !by_device {
        keep_logits(session, &logits, span);
    }
    if let Some((wanted, kept)) = &mut session.embedding {
        keep_states(wanted, kept, states, span);
    }
    if !span.complete || !session.phase.is_active() {
        return false;
    }
    if session.request.max_tokens == 0 {
        let step = Step { token: None, finish: Some(FinishReason::MaxTokens) };
        conclude(session, span.session, step, events);
        return false;
    }
    deliver_token(span, 0, chosen, token, tokenizer, session, events)
}

/// Delivers the token that was chosen after `round` drafted ones, all of them right. Returns true if it is the next
/// drafted one.
fn deliver_token(
    span: &WaveSpan,
    round: usize,
    chosen: Chosen,
    token: Option<(u32, Option<TokenLogprob>)>,
    tokenizer: Option<&Tokenizer>,
    session: &mut SampledSessionItem<'_, '_>,
    events: &mut MessageWriter<'_, SessionEvent>,
) -> bool {
    let by_device = matches!(chosen, Chosen::Device(_));
    if round > 0 {
        session.cursor.computed = span.start + span.rows.len() - span.drafts + round;
        session.cursor.scheduled = session.cursor.computed;
    }
    if by_device {
        session.cursor.unread = session.cursor.unread.saturating_sub(1);
    }
    let step = append(session, token, tokenizer);
    let goes_on = is_right(span, round, &step, session);
    if !goes_on {
        count_drafts(span, round, by_device, session);
    }
    conclude(session, span.session, step, events);
    goes_on
}

/// Returns true if the token of a step is the drafted one, and the request goes on.
fn is_right(span: &WaveSpan, round: usize, step: &Step, session: &SampledSessionItem<'_, '_>) -> bool {
    let drafted = session.draft.as_ref().and_then(|draft| draft.in_flight.get(round)).copied();
    step.finish.is_none() && round < span.drafts && step.token.is_some() && step.token == drafted
}

/// Notes that `accepted` of a span's drafted tokens were right. What a device chose after them is not part of the text.
fn count_drafts(span: &WaveSpan, accepted: usize, by_device: bool, session: &mut SampledSessionItem<'_, '_>) {
    if span.drafts == 0 {
        return;
    }
    if by_device {
        let beyond = span.drafts - accepted;
        session.sampler.take_back(beyond);
        session.cursor.unread = session.cursor.unread.saturating_sub(beyond);
    }
    if let Some(draft) = &mut session.draft {
        draft.in_flight.clear();
        let stats = &mut draft.stats;
        stats.waves += 1;
        stats.drafted += span.drafts as u64;
        stats.accepted += accepted as u64;
        (stats.last_drafted, stats.last_accepted) = (span.drafts as u32, accepted as u32);
    }
}

/// Reports a step. If the request ends with it, discards what is in flight.
fn conclude(
    session: &mut SampledSessionItem<'_, '_>,
    entity: Entity,
    step: Step,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    if step.finish.is_some() {
        // Steps in flight are beyond the end of the request.
        let (computed, unread) = (session.cursor.computed, session.cursor.unread);
        session.sampler.take_back(unread);
        session.cursor.rewind(computed);
    }
    report(session, entity, step, events);
}

/// The model of a wave that passed through the host, or of one that carries readbacks.
pub(super) fn model_of((wave, readback): (Option<&WaveOf>, Option<&ReadbackOf>)) -> Option<Entity> {
    wave.map(|of| of.0).or(readback.map(|of| of.0))
}

/// Delivers the results of waves at the stage `Sample` to their sessions and chooses tokens. Handles waves that passed
/// through the host and waves that carry readbacks, in the order in which they were composed.
pub fn sample(
    host: Res<'_, HostCpu>,
    mut buffers: ResMut<'_, SampleBuffers>,
    waves: Query<'_, '_, (Entity, &Wave, AnyOf<(&WaveOf, &ReadbackOf)>)>,
    mut models: Query<'_, '_, (&ModelConfig, Option<&ModelTokenizer>, &mut SessionQueue), With<Model>>,
    mut sessions: Query<'_, '_, SampledSession>,
    mut work: ResMut<'_, TickWork>,
    mut events: MessageWriter<'_, SessionEvent>,
    mut ready: Local<'_, Vec<(u64, Entity)>>,
) {
    let stands = waves.iter().filter(|(_, wave, _)| wave.at == AtLayer::Sample);
    ready.extend(stands.map(|(entity, wave, _)| (wave.turn, entity)));
    ready.sort_unstable_by_key(|(turn, _)| *turn);
    // All that are here are measured together: when each of them was done is not known.
    let now = Instant::now();
    for (turn, entity) in ready.iter().copied() {
        let model = waves.get(entity).ok().and_then(|(.., of)| model_of(of));
        if let Some(Ok((.., mut queue))) = model.map(|model| models.get_mut(model)) {
            queue.times.stop(turn);
        }
    }
    for (_, entity) in ready.drain(..) {
        let Ok((_, wave, of)) = waves.get(entity) else { continue };
        work.0 += 1;
        let Some(Ok((config, tokenizer, mut queue))) = model_of(of).map(|model| models.get_mut(model)) else {
            continue;
        };
        queue.times.measure(now);
        if queue.is_empty() {
            // What was beyond the end of the last request has come back.
            queue.times.rest();
        }
        let _span = tracing::trace_span!("sample", sessions = wave.spans.len()).entered();
        let tokenizer = tokenizer.map(|tokenizer| &*tokenizer.0);
        deliver(&host.0, wave, config, tokenizer, &mut sessions, &mut buffers, &mut events);
    }
}

/// The outcome of a session's step in this tick.
struct Step {
    token: Option<u32>,
    finish: Option<FinishReason>,
}

fn report(
    session: &mut SampledSessionItem<'_, '_>,
    entity: Entity,
    step: Step,
    events: &mut MessageWriter<'_, SessionEvent>,
) {
    if let Some(token) = step.token {
        events.write(SessionEvent { session: entity, kind: SessionEventKind::Token(token) });
    }
    if let Some(reason) = step.finish {
        Ending { sampler: &mut session.sampler, output: &mut session.output, phase: &mut session.phase }
            .finish(entity, reason, events);
    }
}

/// Appends the chosen token to the session. The result says whether its request ends with it.
fn append(
    session: &mut SampledSessionItem<'_, '_>,
    chosen: Option<(u32, Option<TokenLogprob>)>,
    tokenizer: Option<&Tokenizer>,
) -> Step {
    let SessionSampler { sampler, detokenizer, stops, stop_tokens } = &mut *session.sampler;
    let Some((token, logprob)) = chosen else {
        return Step { token: None, finish: Some(FinishReason::InvalidLogits) };
    };
    sampler.accept(token);
    session.history.0.push(token);
    let output = &mut *session.output;
    output.tokens.push(token);
    output.logprobs.extend(logprob);
    let mut finish = None;
    if let Some(tokenizer) = tokenizer {
        if !session.request.ignore_end && tokenizer.is_end_of_generation(token) {
            finish = Some(FinishReason::EndOfGeneration);
        } else if stop_tokens.contains(&token) {
            // Text held back for another stop string belongs to the answer.
            output.text.push_str(stops.push(detokenizer.finish()).text);
            output.text.push_str(stops.finish());
            finish = Some(FinishReason::StopString);
        } else {
            // Ids beyond the vocabulary, which a padded head can produce, have no text.
            let streamed = stops.push(detokenizer.push(tokenizer, token).unwrap_or_default());
            output.text.push_str(streamed.text);
            finish = streamed.matched.map(|_| FinishReason::StopString);
        }
    }
    if finish.is_none() && output.tokens.len() >= session.request.max_tokens {
        finish = Some(FinishReason::MaxTokens);
    }
    Step { token: Some(token), finish }
}

/// Keeps the logits of this wave that the caller asked for.
fn keep_logits(session: &mut SampledSessionItem<'_, '_>, rows: &LogitRows<'_>, span: &WaveSpan) {
    let (Some(wanted), Some(kept)) = (session.wanted, session.kept.as_mut()) else {
        return;
    };
    for index in span.logits.clone() {
        let position = span.start + rows.rows[index] as usize - span.rows.start;
        if wanted.positions.get(kept.len()) != Some(&position) {
            continue;
        }
        let row = rows.row(index);
        match (wanted.keep, session.history.0.get(position + 1)) {
            (KeepLogits::Row, _) => kept.rows.push(row.to_vec()),
            (KeepLogits::NextTokenLoss, Some(next)) => {
                kept.losses.push(-f64::from(token_logprob(row, *next)))
            }
            (KeepLogits::NextTokenLoss, None) => {}
        }
    }
}
