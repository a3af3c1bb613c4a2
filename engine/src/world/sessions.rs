//! Sessions: opening, closing, and their context.

use super::models::{ModelId, config, tokenizer};
use super::tick::note_closed;
use crate::error::Error;
use crate::options::{Prompt, SessionOptions};
use bevy_ecs::prelude::*;
use weft_components::{
    BlockTable, ContextCursor, KvPool, KvRun, LeafRun, Output, Phase, Request, SessionOf, TokenHistory,
    WaveLimits,
};
use weft_platform::PAGE;
use weft_systems::admit::{AdmitOptions, truncate_session};

/// Identifies a session: its entity in the world that it was opened in. Valid until [`close_session`], or until its
/// model is unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Entity);

/// How much of a session's output [`read`](super::read) has returned.
#[derive(Component, Clone, Copy, Debug, Default)]
pub(super) struct ReadCursor {
    /// Bytes of the text that have been returned.
    pub(super) text: usize,
}

/// Opens a session on a model, which may still be loading.
///
/// # Errors
/// The model has been unloaded.
pub fn open_session(world: &mut World, model: ModelId, options: &SessionOptions) -> Result<SessionId, Error> {
    let config = config(world, model)?;
    let context = config.context;
    // An encoder's attention needs all rows of a text in one wave.
    let wave = if config.causal { usize::MAX } else { wave_rows(world, model) };
    let arena = world.get::<KvPool>(model.0).map_or(0, |pool| pool.capacity().saturating_mul(PAGE));
    let limit = options.context.unwrap_or(context).min(context).min(arena).min(wave);
    let run = world.spawn(KvRun).id();
    let session = world.spawn((
        SessionOf(model.0),
        TokenHistory::default(),
        ContextCursor { limit, ..ContextCursor::default() },
        Phase::default(),
        BlockTable::default(),
        LeafRun(run),
        Request::default(),
        Output::default(),
        ReadCursor::default(),
    ));
    Ok(SessionId(session.id()))
}

/// Maximum number of rows in a wave of a model.
fn wave_rows(world: &World, model: ModelId) -> usize {
    let limits = world.get::<WaveLimits>(model.0).map_or(1, |limits| limits.rows);
    world.get_resource::<AdmitOptions>().copied().unwrap_or_default().max_rows.min(limits)
}

/// Closes a session and frees its KV pages. A request in progress ends without a finish reason.
pub fn close_session(world: &mut World, session: SessionId) {
    if world.get::<SessionOf>(session.0).is_some() {
        world.despawn(session.0);
        note_closed(world);
    }
}

/// Returns the model of a session.
///
/// # Errors
/// The session has been closed.
pub fn model_of(world: &World, session: SessionId) -> Result<ModelId, Error> {
    world.get::<SessionOf>(session.0).map(|of| ModelId(of.0)).ok_or(Error::NoSession)
}

/// Returns the tokens of a session: prompts and answers, in order.
///
/// # Errors
/// The session has been closed.
pub fn history(world: &World, session: SessionId) -> Result<&[u32], Error> {
    world.get::<TokenHistory>(session.0).map(|history| &history.0[..]).ok_or(Error::NoSession)
}

/// Returns the session's phase: what it is doing, or why its request ended.
///
/// # Errors
/// The session has been closed.
pub fn phase(world: &World, session: SessionId) -> Result<Phase, Error> {
    world.get::<Phase>(session.0).copied().ok_or(Error::NoSession)
}

/// Returns the output of the latest request so far.
///
/// # Errors
/// The session has been closed.
pub fn output(world: &World, session: SessionId) -> Result<&Output, Error> {
    world.get::<Output>(session.0).ok_or(Error::NoSession)
}

/// Returns an error if a request of the session is in progress.
pub(super) fn ensure_at_rest(world: &World, session: SessionId) -> Result<(), Error> {
    match phase(world, session)? {
        Phase::Idle | Phase::Finished(_) => Ok(()),
        Phase::Waiting | Phase::Prefilling | Phase::Decoding | Phase::Paused => Err(Error::Busy),
    }
}

/// Appends a prompt to the session's context.
///
/// # Errors
/// The session is closed or busy, the text cannot be tokenized, a token does not exist, or the context overflows. On an
/// error the session does not change.
pub fn append(world: &mut World, session: SessionId, prompt: Prompt) -> Result<(), Error> {
    ensure_at_rest(world, session)?;
    let empty = history(world, session)?.is_empty();
    let tokens = match prompt {
        Prompt::Tokens(tokens) => tokens,
        Prompt::Text { text, special } => {
            tokenizer(world, model_of(world, session)?)?.encode(&text, special, empty)?
        }
    };
    let mut whole = history(world, session)?.to_vec();
    whole.extend_from_slice(&tokens);
    set_context(world, session, whole)
}

/// Replaces the session's context with `tokens`. The longest common prefix with the cached context stays cached.
///
/// # Errors
/// As [`append`].
pub fn set_context(world: &mut World, session: SessionId, tokens: Vec<u32>) -> Result<(), Error> {
    ensure_at_rest(world, session)?;
    let vocabulary = config(world, model_of(world, session)?)?.vocabulary;
    if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
        return Err(Error::UnknownToken { token, vocabulary });
    }
    let limit = world.get::<ContextCursor>(session.0).ok_or(Error::NoSession)?.limit;
    if tokens.len() > limit {
        return Err(Error::ContextOverflow { tokens: tokens.len(), limit });
    }
    let history = history(world, session)?;
    let common = history.iter().zip(&tokens).take_while(|(old, new)| old == new).count();
    // The last token is always recomputed, because its logits choose the next.
    truncate(world, session, common.min(tokens.len().saturating_sub(1)));
    if let Some(mut history) = world.get_mut::<TokenHistory>(session.0) {
        history.0 = tokens;
    }
    Ok(())
}

/// Cuts the session's cached context to its first `keep` tokens. The history does not change.
pub(super) fn truncate(world: &mut World, session: SessionId, keep: usize) {
    // The system accepts any entity, so it cannot fail.
    let _ = world.run_system_cached_with(truncate_session, (session.0, keep));
}
