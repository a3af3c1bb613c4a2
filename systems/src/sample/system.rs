//! The stage `Sample`: logits become tokens, tokens become text, and requests end.

use super::{SampleError, SampleScratch, Sampler, token_logprob};
use crate::load::ModelTokenizer;
use crate::tokenize::{Detokenizer, StopStrings, TokenizeError, Tokenizer};
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, ContextCursor, FinishReason, KeepLogits, LogitsKept, LogitsWanted, Model, ModelConfig, Output,
    Phase, Request, SamplerSettings, SessionEvent, SessionEventKind, TickWork, TokenHistory, Wave, WaveOf,
    WaveSpan,
};

/// Buffers of the stage, shared by all sessions.
#[derive(Resource, Default)]
pub struct SampleBuffers(SampleScratch);

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Its sampler's settings do not.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Its stop strings do not.
    #[error(transparent)]
    Stop(#[from] TokenizeError),
}

/// How one request chooses tokens and turns them into text. A component of the session, made anew for each request.
#[derive(Component)]
pub struct SessionSampler {
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopStrings,
}

impl SessionSampler {
    /// A sampler that has seen `history`.
    ///
    /// # Errors
    /// Settings or stop strings that make no sense.
    pub fn new(
        settings: &SamplerSettings,
        vocabulary: usize,
        history: &[u32],
        stop: &[String],
    ) -> Result<Self, RequestError> {
        let mut sampler = Sampler::new(settings.clone(), vocabulary)?;
        let seen = history.len().saturating_sub(settings.penalty_last_n);
        history[seen..].iter().for_each(|token| sampler.accept(*token));
        Ok(Self { sampler, detokenizer: Detokenizer::default(), stops: StopStrings::new(stop)? })
    }
}

/// What the end of a request touches.
pub struct Ending<'a> {
    /// Holds text back that may be the start of a stop string, or of a character.
    pub sampler: &'a mut SessionSampler,
    /// Gets that text.
    pub output: &'a mut Output,
    /// Becomes finished.
    pub phase: &'a mut Phase,
}

impl Ending<'_> {
    /// Ends the request, however it came to its end: gives out what was held back, and tells.
    pub fn finish(self, session: Entity, reason: FinishReason, events: &mut MessageWriter<'_, SessionEvent>) {
        let SessionSampler { detokenizer, stops, .. } = self.sampler;
        if reason != FinishReason::StopString {
            self.output.text.push_str(stops.push(detokenizer.finish()).text);
            self.output.text.push_str(stops.finish());
        }
        *self.phase = Phase::Finished(reason);
        events.write(SessionEvent { session, kind: SessionEventKind::Finished(reason) });
    }
}

/// Ends a session's request from outside, `(session, reason)`, if it has one. Rows under way for it are void.
pub fn end_request(
    In((entity, reason)): In<(Entity, FinishReason)>,
    mut sessions: Query<'_, '_, (&mut SessionSampler, &mut Output, &mut Phase, &mut ContextCursor)>,
    mut events: MessageWriter<'_, SessionEvent>,
) {
    let Ok((mut sampler, mut output, mut phase, mut cursor)) = sessions.get_mut(entity) else { return };
    if phase.is_active() || *phase == Phase::Paused {
        cursor.epoch = cursor.epoch.wrapping_add(1);
        Ending { sampler: &mut sampler, output: &mut output, phase: &mut phase }.finish(
            entity,
            reason,
            &mut events,
        );
    }
}

/// What the stage reads and writes of a session.
#[derive(bevy_ecs::query::QueryData)]
#[query_data(mutable)]
pub struct SampledSession {
    history: &'static mut TokenHistory,
    cursor: &'static mut ContextCursor,
    phase: &'static mut Phase,
    request: &'static Request,
    sampler: &'static mut SessionSampler,
    output: &'static mut Output,
    wanted: Option<&'static LogitsWanted>,
    kept: Option<&'static mut LogitsKept>,
}

/// Takes the logits of waves to their sessions and chooses tokens.
pub fn sample(
    mut buffers: ResMut<'_, SampleBuffers>,
    waves: Query<'_, '_, (&Wave, &WaveOf)>,
    models: Query<'_, '_, (&ModelConfig, Option<&ModelTokenizer>), With<Model>>,
    mut sessions: Query<'_, '_, SampledSession>,
    mut work: ResMut<'_, TickWork>,
    mut events: MessageWriter<'_, SessionEvent>,
) {
    for (wave, of) in &waves {
        if wave.at != AtLayer::Sample {
            continue;
        }
        work.0 += 1;
        let Ok((config, tokenizer)) = models.get(of.0) else {
            continue;
        };
        let _span = tracing::trace_span!("sample", sessions = wave.spans.len()).entered();
        let tokenizer = tokenizer.map(|tokenizer| &*tokenizer.0);
        for span in &wave.spans {
            // A session that died or gave up its context since has no use for these rows.
            let Ok(mut session) = sessions.get_mut(span.session) else {
                continue;
            };
            if session.cursor.epoch != span.epoch {
                continue;
            }
            session.cursor.computed = span.start + span.rows.len();
            keep_logits(&mut session, wave, span, config.vocabulary);
            if span.complete && session.phase.is_active() {
                let step = if session.request.max_tokens == 0 {
                    Step { token: None, finish: Some(FinishReason::MaxTokens) }
                } else {
                    let row = (span.logits.end - 1) * config.vocabulary;
                    let logits = &wave.logits[row..row + config.vocabulary];
                    choose(&mut session, logits, tokenizer, &mut buffers.0)
                };
                report(&mut session, span.session, step, &mut events);
            }
        }
    }
}

/// What became of a session in this tick.
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

/// Chooses the next token of a session and says whether its request ends with it.
fn choose(
    session: &mut SampledSessionItem<'_, '_>,
    logits: &[f32],
    tokenizer: Option<&Tokenizer>,
    scratch: &mut SampleScratch,
) -> Step {
    let SessionSampler { sampler, detokenizer, stops } = &mut *session.sampler;
    let choice = {
        let _kernel = tracing::trace_span!(target: "weft::kernel", "choose").entered();
        sampler.sample(logits, scratch)
    };
    if choice.degenerate {
        return Step { token: None, finish: Some(FinishReason::InvalidLogits) };
    }
    sampler.accept(choice.token);
    session.history.0.push(choice.token);
    let output = &mut *session.output;
    output.tokens.push(choice.token);
    output.logprobs.extend(choice.logprob);
    let mut finish = None;
    if let Some(tokenizer) = tokenizer {
        if !session.request.ignore_end && tokenizer.is_end_of_generation(choice.token) {
            finish = Some(FinishReason::EndOfGeneration);
        } else {
            // Ids past the vocabulary, which a padded head can give, have no text.
            let streamed = stops.push(detokenizer.push(tokenizer, choice.token).unwrap_or_default());
            output.text.push_str(streamed.text);
            finish = streamed.matched.map(|_| FinishReason::StopString);
        }
    }
    if finish.is_none() && output.tokens.len() >= session.request.max_tokens {
        finish = Some(FinishReason::MaxTokens);
    }
    Step { token: Some(choice.token), finish }
}

/// Copies what a caller asked to keep of this wave's logits.
fn keep_logits(session: &mut SampledSessionItem<'_, '_>, wave: &Wave, span: &WaveSpan, vocabulary: usize) {
    let (Some(wanted), Some(kept)) = (session.wanted, session.kept.as_mut()) else {
        return;
    };
    for index in span.logits.clone() {
        let position = span.start + wave.logit_rows[index] as usize - span.rows.start;
        if wanted.positions.get(kept.len()) != Some(&position) {
            continue;
        }
        let row = &wave.logits[index * vocabulary..][..vocabulary];
        match (wanted.keep, session.history.0.get(position + 1)) {
            (KeepLogits::Row, _) => kept.rows.push(row.to_vec()),
            (KeepLogits::NextTokenLoss, Some(next)) => {
                kept.losses.push(-f64::from(token_logprob(row, *next)))
            }
            (KeepLogits::NextTokenLoss, None) => {}
        }
    }
}
