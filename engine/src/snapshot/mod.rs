//! Snapshots: a session as bytes, to go on later, elsewhere, or on another backend, as if it had never stopped.
//!
//! A snapshot has the session's tokens, its options, and the state of a request in progress; if asked for, also the pages
//! of its cached context. Without pages, or where they do not fit the model's KV cache, the context is computed again.
//! Components that a program has added to the session, such as `TokenMask`, are not part of it.
//!
//! `file` defines the bytes, `pages` what is in a page section, this module what a world does with them.

mod file;
pub(crate) mod pages;

pub use file::{Snapshot, SnapshotError};

use crate::error::Error;
use crate::options::SessionOptions;
use crate::world::{self, ModelId, SessionId};
use bevy_ecs::prelude::*;
pub(crate) use file::SavedModel;
use file::{Header, SavedAdapter, SavedRequest};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use weft_components::{
    Adapter, Adapters, Client, ContextCursor, EmbeddingWanted, LogitsWanted, ModelConfig, Output, Phase,
    Priority, PrivateContext, Request, TokenHistory, TurnStarts, UsesAdapter,
};
use weft_systems::load::ModelOrigin;
use weft_systems::sample::{SessionSampler, replay_answer};

/// Turns a session into bytes. With `pages`, the keys and values of its cached context are among them, if the whole model is
/// on the CPU, or on GPUs, and none of its waves is in progress. From GPUs this blocks until the pages have been copied; in a
/// browser, which cannot block, they are left out. The session does not change.
///
/// # Errors
/// The session has been closed, or computes logits of its prompt or an embedding.
pub fn snapshot(world: &World, session: SessionId, pages: bool) -> Result<Vec<u8>, Error> {
    let model = world::model_of(world, session)?;
    let entity = world.get_entity(session.0).map_err(|_| Error::NoSession)?;
    let phase = *entity.get::<Phase>().ok_or(Error::NoSession)?;
    let cursor = *entity.get::<ContextCursor>().ok_or(Error::NoSession)?;
    let runs = phase.is_active() || phase == Phase::Paused;
    if runs && (entity.contains::<LogitsWanted>() || entity.contains::<EmbeddingWanted>()) {
        return Err(Error::Busy);
    }
    let request = entity.get::<Request>().zip(entity.get::<SessionSampler>()).filter(|_| runs);
    let tokens = world::history(world, session)?.to_vec();
    let request = request.map(|(request, sampler)| SavedRequest {
        draws: sampler.settled_draws(cursor.unread),
        answer: entity.get::<Output>().map_or_else(Vec::new, |output| output.tokens.clone()),
        paused: phase == Phase::Paused,
        ..SavedRequest::of(request)
    });
    let adapter = entity.get::<UsesAdapter>().and_then(|used| {
        let name = world.get::<Adapter>(used.adapter)?.name.clone();
        Some(SavedAdapter { name, scale: used.scale })
    });
    let (saved, pages) = if pages { pages::save(world, model, session).unzip() } else { (None, None) };
    let header = Header {
        model: mark(world, model)?,
        adapter,
        tokens: tokens.len(),
        turns: entity.get::<TurnStarts>().map_or_else(Vec::new, |turns| turns.0.clone()),
        context: cursor.limit,
        private: entity.contains::<PrivateContext>(),
        priority: entity.get::<Priority>().map_or(0, |priority| priority.0),
        client: entity.get::<Client>().map(|client| client.0),
        request,
        pages: saved,
    };
    Ok(Snapshot::new(header, tokens, pages.unwrap_or_default()).encode())
}

/// Opens a session that goes on from a snapshot. A request that was in progress is again.
///
/// # Errors
/// The bytes are not a whole snapshot, or one of a newer version or of another model; or its adapter is not loaded. As
/// [`world::open_session`], [`world::set_context`] and [`world::generate`].
pub fn restore(world: &mut World, model: ModelId, bytes: &[u8]) -> Result<SessionId, Error> {
    let Snapshot { header, tokens, pages } = Snapshot::decode(bytes)?;
    let own = mark(world, model)?;
    if header.model.fingerprint != own.fingerprint {
        return Err(SnapshotError::OtherModel { snapshot: header.model.name, model: own.name }.into());
    }
    let adapter = match &header.adapter {
        None => None,
        Some(SavedAdapter { name, scale }) => {
            let all = world.get::<Adapters>(model.0).map_or(&[][..], Adapters::entities);
            let named =
                |entity: &&Entity| world.get::<Adapter>(**entity).is_some_and(|found| found.name == *name);
            let found = all.iter().find(named).copied();
            let adapter = found.ok_or_else(|| SnapshotError::Adapter { name: name.clone() })?;
            Some((crate::AdapterId(adapter), *scale))
        }
    };
    let options = SessionOptions {
        context: Some(header.context),
        private: header.private,
        priority: header.priority,
        client: header.client,
    };
    let session = world::open_session(world, model, &options)?;
    let restored = go_on(world, model, session, &header, tokens, &pages, adapter);
    if restored.is_err() {
        world::close_session(world, session);
    }
    restored?;
    // Of a damaged list nothing worse comes than turns that are cut elsewhere.
    let starts = header.turns.into_iter().filter(|start| *start < header.tokens).collect::<BTreeSet<_>>();
    world.entity_mut(session.0).insert(TurnStarts(starts.into_iter().collect()));
    Ok(session)
}

/// Brings a session that has just been opened to the state of a snapshot.
fn go_on(
    world: &mut World,
    model: ModelId,
    session: SessionId,
    header: &Header,
    mut tokens: Vec<u32>,
    pages: &[u8],
    adapter: Option<(crate::AdapterId, f32)>,
) -> Result<(), Error> {
    if let Some((adapter, scale)) = adapter {
        world::set_adapter(world, session, Some(adapter), scale)?;
    }
    let answer = header.request.as_ref().map_or(&[][..], |request| &request.answer);
    let vocabulary = world::config(world, model)?.vocabulary;
    if let Some(token) = answer.iter().chain(&tokens).copied().find(|token| *token as usize >= vocabulary) {
        return Err(Error::UnknownToken { token, vocabulary });
    }
    let Some(request) = &header.request else {
        // The last token of an answer may be beyond the context that the session may have.
        let last = tokens.pop();
        world::set_context(world, session, tokens)?;
        if let (Some(last), Some(mut history)) = (last, world.get_mut::<TokenHistory>(session.0)) {
            history.0.push(last);
        }
        return load_pages(world, model, session, header, pages);
    };
    // The request starts from what was there before its answer, which is appended again. If a full context lost some of it,
    // the sampler has seen it all the same.
    let common = tokens.iter().rev().zip(answer.iter().rev()).take_while(|(old, new)| old == new).count();
    let before = tokens[..(tokens.len() - common).max(1).min(tokens.len())].to_vec();
    world::set_context(world, session, before)?;
    world::generate(world, session, &request.options())?;
    // The system accepts any entity, so it cannot fail.
    let _ = world.run_system_cached_with(replay_answer, (session.0, answer.to_vec(), request.draws));
    if let Some(mut history) = world.get_mut::<TokenHistory>(session.0) {
        history.0 = tokens;
    }
    load_pages(world, model, session, header, pages)?;
    if request.paused {
        world::pause(world, session)?;
    }
    Ok(())
}

fn load_pages(
    world: &mut World,
    model: ModelId,
    session: SessionId,
    header: &Header,
    pages: &[u8],
) -> Result<(), Error> {
    if let Some(saved) = &header.pages {
        pages::load(world, model, session, saved, pages);
    }
    Ok(())
}

/// What identifies a model: its hyperparameters and its tensors' names, shapes and formats.
pub(crate) fn mark(world: &World, model: ModelId) -> Result<SavedModel, Error> {
    let config: &ModelConfig = world::config(world, model)?;
    let mut hash = Sha256::new();
    let ModelConfig { layers, embedding, heads, kv_heads, vocabulary, .. } = config;
    hash.update(format!(
        "{} {} {layers} {embedding} {heads} {kv_heads} {vocabulary}",
        config.architecture, config.name
    ));
    let shards = world.get::<ModelOrigin>(model.0).map_or(&[][..], ModelOrigin::shards);
    for spec in shards {
        let shard = &spec.shard;
        hash.update(format!("\n{} {} {} {}", shard.name, shard.rows, shard.cols, shard.format.name()));
    }
    let fingerprint = hex(&hash.finalize());
    Ok(SavedModel { architecture: config.architecture.clone(), name: config.name.clone(), fingerprint })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
