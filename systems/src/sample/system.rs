//! The stage `Sample`: logits become tokens, tokens become text, and requests end.

use super::{SampleError, SampleScratch, Sampler, token_logprob};
use crate::load::ModelTokenizer;
use crate::tokenize::{Detokenizer, StopStrings, TokenizeError, Tokenizer};
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, ContextCursor, FinishReason, KeepLogits, LogitsKept, LogitsWanted, Model, ModelConfig, Output,
    Phase, Request, SamplerSettings, SessionEvent, SessionEventKind, TokenHistory, Wave, WaveOf, WaveSpan,
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
    mut events: MessageWriter<'_, SessionEvent>,
) {
    for (wave, of) in &waves {
        if wave.at != AtLayer::Sample {
            continue;
        }
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
        *session.phase = Phase::Finished(reason);
        events.write(SessionEvent { session: entity, kind: SessionEventKind::Finished(reason) });
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
    if finish.is_some_and(|reason| reason != FinishReason::StopString) {
        output.text.push_str(stops.push(detokenizer.finish()).text);
        output.text.push_str(stops.finish());
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
        if wanted.positions.binary_search(&position).is_err() {
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
