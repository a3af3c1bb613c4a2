//! Requests: generating, reading the output, cancelling, and logits of the prompt.

use super::models::{ModelId, config, tokenizer};
use super::sessions::{
    ReadCursor, SessionId, close_session, ensure_at_rest, history, model_of, open_session, output, phase,
    truncate,
};
use super::tick::signal;
use crate::answer::{Subscription, failure_of};
use crate::error::Error;
use crate::options::{GenerateOptions, SessionOptions};
use bevy_ecs::prelude::*;
use weft_components::{
    Draft, DraftedBy, DraftsFor, EmbeddingWanted, FinishReason, KeepLogits, LogitsKept, LogitsWanted, Output,
    Phase, Request, SessionOf, TokenHistory,
};
use weft_systems::fail::LoadFailed;
use weft_systems::sample::{SessionSampler, end_request};
use weft_systems::speculate::{DraftModelUse, Drafter};

/// Tokens of an answer for which memory is reserved at its start. Buffers of longer answers grow while they are
/// generated.
const RESERVED: usize = 4096;

/// Starts to generate from the session's context. The following ticks compute it.
///
/// # Errors
/// The session is closed, busy or empty, the model is an encoder or has no head, or the sampler's settings are not
/// valid.
pub fn generate(world: &mut World, session: SessionId, options: &GenerateOptions) -> Result<(), Error> {
    let config = config(world, model_of(world, session)?)?;
    if !config.causal {
        return Err(Error::Encoder { architecture: config.architecture.clone() });
    }
    if config.headless {
        return Err(Error::NoHead);
    }
    start(world, session, options)
}

/// Starts a request: prefills the context, then generates.
pub(super) fn start(world: &mut World, session: SessionId, options: &GenerateOptions) -> Result<(), Error> {
    ensure_at_rest(world, session)?;
    let model = model_of(world, session)?;
    let vocabulary = config(world, model)?.vocabulary;
    let history = history(world, session)?;
    if history.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let tokenizer = tokenizer(world, model).ok();
    let sampler = SessionSampler::new(&options.sampler, vocabulary, history, &options.stop, tokenizer)?;
    // The last token is always recomputed, because its logits choose the next. This lets a request without a new prompt
    // continue an answer.
    let keep = history.len() - 1;
    truncate(world, session, keep);
    let drafting = drafting_session(world, session, model, options)?;
    let request = Request {
        max_tokens: options.max_tokens.unwrap_or(usize::MAX),
        stop: options.stop.clone(),
        ignore_end: options.ignore_end,
        sampler: options.sampler.clone(),
        prefill_chunk: options.prefill_chunk,
        draft: options.draft,
        when_full: options.when_full,
    };
    let reserved = request.max_tokens.min(RESERVED);
    // Reserved here, so that a decode tick allocates nothing.
    if let Some(mut history) = world.get_mut::<TokenHistory>(session.0) {
        history.0.reserve(reserved);
    }
    let failed = world.get::<LoadFailed>(model.0).cloned();
    let mut entity = world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
    // The previous request has ended, but no tick may have published its end yet.
    if let Some(mut subscription) = entity.take::<Subscription>()
        && let (Some(output), Some(phase)) = (entity.get::<Output>(), entity.get::<Phase>())
    {
        subscription.publish(output, *phase, || failure_of(failed.as_ref()));
    }
    entity.remove::<(LogitsWanted, EmbeddingWanted)>();
    if request.draft == 0 {
        entity.remove::<(Draft, Drafter)>();
    } else {
        entity.insert(Draft::default());
        if !entity.contains::<Drafter>() {
            entity.insert(Drafter::new());
        }
    }
    match drafting {
        Some(_) if !entity.contains::<DraftModelUse>() => drop(entity.insert(DraftModelUse::default())),
        Some(_) => {}
        None => drop(entity.remove::<DraftModelUse>()),
    }
    let output = Output::with_capacity(reserved);
    entity.insert((request, sampler, output, ReadCursor::default(), Phase::Waiting));
    // Whoever waits for work has some now.
    signal(world).notify();
    Ok(())
}

/// The session of the draft model that drafts for a session. It is opened if there is none, and closed if none is wanted.
fn drafting_session(
    world: &mut World,
    session: SessionId,
    model: ModelId,
    options: &GenerateOptions,
) -> Result<Option<Entity>, Error> {
    let found = world.get::<DraftedBy>(session.0).and_then(DraftedBy::session);
    let wanted = options.draft_model.filter(|_| options.draft > 0);
    if let (Some(found), Some(wanted)) = (found, wanted)
        && world.get::<SessionOf>(found).is_some_and(|of| of.0 == wanted.0)
    {
        return Ok(Some(found));
    }
    let Some(drafter) = wanted else {
        found.into_iter().for_each(|found| close_session(world, SessionId(found)));
        return Ok(None);
    };
    let (own, other) = (config(world, model)?.vocabulary, config(world, drafter)?.vocabulary);
    if own != other || drafter == model {
        return Err(Error::DraftModel { vocabulary: own, draft: other });
    }
    found.into_iter().for_each(|found| close_session(world, SessionId(found)));
    let drafting = open_session(world, drafter, &SessionOptions::default())?;
    world.entity_mut(drafting.0).insert(DraftsFor(session.0));
    Ok(Some(drafting.0))
}

/// Ends the session's request with [`FinishReason::Cancelled`]. Keeps the session's context.
///
/// # Errors
/// The session has been closed.
pub fn cancel(world: &mut World, session: SessionId) -> Result<(), Error> {
    phase(world, session)?;
    // The system accepts any entity, so it cannot fail.
    let _ = world.run_system_cached_with(end_request, (session.0, FinishReason::Cancelled));
    Ok(())
}

/// Returns the text generated since the last call; empty if there is none.
///
/// # Errors
/// The session has been closed.
pub fn read(world: &mut World, session: SessionId) -> Result<String, Error> {
    let text = &output(world, session)?.text;
    let read = world.get::<ReadCursor>(session.0).ok_or(Error::NoSession)?.text;
    let piece = text.get(read..).unwrap_or_default().to_owned();
    if !piece.is_empty()
        && let Some(mut cursor) = world.get_mut::<ReadCursor>(session.0)
    {
        cursor.text = read + piece.len();
    }
    Ok(piece)
}

/// Requests logits or losses at `positions` of the session's context. The context is recomputed from its beginning.
/// When the session has finished, [`take_logits`] returns them. `prefill_chunk` is the maximum number of rows in one
/// wave; 0 for as many as fit.
///
/// # Errors
/// As [`generate`]; also if a position holds no token or the positions do not ascend.
pub fn ask_logits(
    world: &mut World,
    session: SessionId,
    positions: Vec<usize>,
    keep: KeepLogits,
    prefill_chunk: usize,
) -> Result<(), Error> {
    ensure_at_rest(world, session)?;
    let tokens = history(world, session)?.len();
    // A loss needs the token that follows.
    let end = tokens - usize::from(keep == KeepLogits::NextTokenLoss && tokens > 0);
    let unordered = positions.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| pair[1]);
    let beyond = positions.last().copied().filter(|position| *position >= end);
    if let Some(position) = unordered.or(beyond) {
        return Err(Error::BadPosition { position, tokens });
    }
    let options = GenerateOptions { max_tokens: Some(0), prefill_chunk, ..GenerateOptions::default() };
    generate(world, session, &options)?;
    truncate(world, session, 0);
    world.entity_mut(session.0).insert((LogitsWanted { positions, keep }, LogitsKept::default()));
    Ok(())
}

/// Takes the logits requested by [`ask_logits`] that have been computed so far. No further logits are kept afterwards.
///
/// # Errors
/// The session has been closed.
pub fn take_logits(world: &mut World, session: SessionId) -> Result<LogitsKept, Error> {
    phase(world, session)?;
    let mut entity = world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
    entity.remove::<LogitsWanted>();
    Ok(entity.take::<LogitsKept>().unwrap_or_default())
}
