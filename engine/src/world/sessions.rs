//! Sessions: opening, closing, and their context.

use super::models::{ModelId, config, tokenizer};
use super::tick::{note_closed, signal};
use crate::error::Error;
use crate::options::{Prompt, SessionOptions};
use bevy_ecs::prelude::*;
use weft_components::{
    BlockTable, Client, ContextCursor, KvPools, Output, Phase, Priority, PrivateContext, Request, SessionOf,
    TokenHistory, TurnStarts, UsesAdapter, WaveLimits,
};
use weft_platform::PAGE;
use weft_systems::admit::{AdmitOptions, resume_session};
use weft_systems::kv::{fork_context, truncate_session};

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
    let pools = world.get::<KvPools>(model.0);
    let arena = pools.map_or(0, |pools| pools.context_pages(&config.kv_classes).saturating_mul(PAGE));
    let limit = options.context.unwrap_or(context).min(context).min(arena).min(wave);
    let mut session = world.spawn((
        SessionOf(model.0),
        (TokenHistory::default(), TurnStarts::default()),
        ContextCursor { limit, ..ContextCursor::default() },
        Phase::default(),
        BlockTable::default(),
        Request::default(),
        Output::default(),
        ReadCursor::default(),
        Priority(options.priority),
    ));
    if let Some(client) = options.client {
        session.insert(Client(client));
    }
    if options.private {
        session.insert(PrivateContext);
    }
    Ok(SessionId(session.id()))
}

/// Opens a session with the same tokens, adapter and options as another, whose cached context it shares. It costs at most
/// one page; a private context is computed again. The other may have a request in progress; the new one has none.
///
/// # Errors
/// The session has been closed.
pub fn fork(world: &mut World, session: SessionId) -> Result<SessionId, Error> {
    let tokens = history(world, session)?.to_vec();
    let model = model_of(world, session)?;
    let entity = world.get_entity(session.0).map_err(|_| Error::NoSession)?;
    let options = SessionOptions {
        context: entity.get::<ContextCursor>().map(|cursor| cursor.limit),
        private: entity.get::<PrivateContext>().is_some(),
        priority: entity.get::<Priority>().map_or(0, |priority| priority.0),
        client: entity.get::<Client>().map(|client| client.0),
    };
    let adapter = entity.get::<UsesAdapter>().copied();
    let turns = entity.get::<TurnStarts>().cloned().unwrap_or_default();
    let new = open_session(world, model, &options)?;
    let mut entity = world.entity_mut(new.0);
    entity.insert((TokenHistory(tokens), turns));
    if let Some(adapter) = adapter {
        entity.insert(adapter);
    }
    fork_context(world, session.0, new.0);
    Ok(new)
}

/// Pauses a session's request: it keeps its context and takes no part in waves until [`resume`]. Does nothing if no
/// request is in progress.
///
/// # Errors
/// The session has been closed.
pub fn pause(world: &mut World, session: SessionId) -> Result<(), Error> {
    if phase(world, session)?.is_active() {
        // Rows in flight are computed again.
        truncate(world, session, usize::MAX);
        if let Some(mut phase) = world.get_mut::<Phase>(session.0) {
            *phase = Phase::Paused;
        }
    }
    Ok(())
}

/// Lets a paused session go on. Does nothing if it is not paused.
///
/// # Errors
/// The session has been closed.
pub fn resume(world: &mut World, session: SessionId) -> Result<(), Error> {
    phase(world, session)?;
    resume_session(world, session.0);
    // Whoever waits for work has some now.
    signal(world).notify();
    Ok(())
}

/// Maximum number of rows in a wave of a model.
fn wave_rows(world: &World, model: ModelId) -> usize {
    let limits = world.get::<WaveLimits>(model.0).map_or(1, |limits| limits.rows);
    AdmitOptions::of(world).max_rows.min(limits)
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

/// Appends a prompt to the session's context. A turn of the conversation starts with it.
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
    let start = whole.len();
    whole.extend_from_slice(&tokens);
    set_context(world, session, whole)?;
    if let Some(mut turns) = world.get_mut::<TurnStarts>(session.0) {
        turns.begin(start);
    }
    Ok(())
}

/// Replaces the session's context with `tokens`. The longest common prefix with the cached context stays cached. If tokens
/// follow it, a turn of the conversation starts there; turns that started later are gone.
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
    let extends = (1..tokens.len()).contains(&common);
    // The last token is always recomputed, because its logits choose the next.
    truncate(world, session, common.min(tokens.len().saturating_sub(1)));
    if let Some(mut history) = world.get_mut::<TokenHistory>(session.0) {
        history.0 = tokens;
    }
    if let Some(mut turns) = world.get_mut::<TurnStarts>(session.0) {
        turns.0.retain(|start| *start < common);
        if extends {
            turns.begin(common);
        }
    }
    Ok(())
}

/// Cuts the session's cached context to its first `keep` tokens. The history does not change.
pub(super) fn truncate(world: &mut World, session: SessionId, keep: usize) {
    truncate_session(world, session.0, keep);
}
