//! Functions that run ticks and block until a result is there. Not in the browser, where no thread may block.

use super::embeddings::{Embedding, EmbeddingBatch};
use super::models::{ModelId, progress, request_layers};
use super::requests::read;
use super::sessions::{SessionId, model_of, phase};
use super::tick::{LastTick, TickOutcome, signal, tick};
use crate::error::Error;
use crate::options::{EmbedOptions, Prompt};
use bevy_ecs::prelude::*;
use core::time::Duration;
use weft_components::{FinishReason, Phase};
use weft_systems::on_gpu::GpuShards;

/// Maximum time that [`rest`] waits, so that a device that hangs does not hang the program. A wait that ends early only
/// costs a tick that finds nothing to do.
const STEP: Duration = Duration::from_millis(100);

/// Waits until another tick may make progress, for at most 100 ms, for a loop that calls [`tick`]. Returns at once if
/// the last tick advanced. While a step is in flight on a GPU it waits for the oldest step, and the world's [`signal`]
/// does not end the wait; otherwise it waits for the signal.
pub fn rest(world: &mut World) {
    if world.get_resource::<LastTick>().is_some_and(|last| last.0 == TickOutcome::Advanced) {
        return;
    }
    // The system only reads the world, so it cannot fail.
    if world.run_system_cached(wait_for_gpu).unwrap_or(false) {
        return;
    }
    signal(world).wait_timeout(STEP);
}

/// Waits for the oldest in-flight step of the first GPU that has one. Returns false if no step is in flight.
fn wait_for_gpu(models: Query<'_, '_, &GpuShards>) -> bool {
    models.iter().any(|model| model.wait(STEP))
}

/// Runs a tick, then [`rest`].
fn tick_or_rest(world: &mut World) {
    tick(world);
    rest(world);
}

/// Requests the evicted layers of a model and runs ticks until all its weights are loaded.
///
/// # Errors
/// The model has been unloaded, its load failed, or a backend has no memory for an evicted layer.
pub fn wait_loaded(world: &mut World, model: ModelId) -> Result<(), Error> {
    request_layers(world, model)?;
    while !progress(world, model)?.is_complete() {
        tick_or_rest(world);
    }
    Ok(())
}

/// Runs ticks until the session has more text, and returns it. Returns `None` when the request has ended.
///
/// # Errors
/// The session has been closed, or its model could not be loaded.
pub fn next_piece(world: &mut World, session: SessionId) -> Result<Option<String>, Error> {
    loop {
        let piece = read(world, session)?;
        if !piece.is_empty() {
            return Ok(Some(piece));
        }
        match phase(world, session)? {
            Phase::Finished(FinishReason::ModelFailed) => return Err(load_error(world, session)),
            Phase::Idle | Phase::Paused | Phase::Finished(_) => return Ok(None),
            Phase::Waiting | Phase::Prefilling | Phase::Decoding => tick_or_rest(world),
        }
    }
}

/// Runs ticks until the session's request has ended, and returns the reason.
///
/// # Errors
/// The session has been closed or has no request, or its model could not be loaded.
pub fn wait(world: &mut World, session: SessionId) -> Result<FinishReason, Error> {
    loop {
        match phase(world, session)? {
            Phase::Finished(FinishReason::ModelFailed) => return Err(load_error(world, session)),
            Phase::Finished(reason) => return Ok(reason),
            Phase::Idle | Phase::Paused => return Err(Error::NothingAsked),
            Phase::Waiting | Phase::Prefilling | Phase::Decoding => tick_or_rest(world),
        }
    }
}

/// Returns the error of the failed load, for a session that ended with `ModelFailed`.
fn load_error(world: &World, session: SessionId) -> Error {
    model_of(world, session).and_then(|model| progress(world, model)).err().unwrap_or(Error::NoModel)
}

/// Computes the embeddings of texts, in the order of the texts, and runs ticks until they are done. Opens one session
/// per text; the sessions share waves. Prepares each text as [`embedding_prompt`](super::embedding_prompt).
///
/// # Errors
/// As [`embedding_prompt`](super::embedding_prompt), [`open_session`](super::open_session), [`append`](super::append),
/// [`ask_embedding`](super::ask_embedding) and [`take_embedding`](super::take_embedding).
pub fn embed(
    world: &mut World,
    model: ModelId,
    texts: &[Prompt],
    options: &EmbedOptions,
) -> Result<Vec<Embedding>, Error> {
    embed_each(world, model, texts, options)?.into_iter().collect()
}

/// As [`embed`], with one result per text: an empty or too long text does not fail the others.
///
/// # Errors
/// The model has been unloaded, or its load failed.
pub fn embed_each(
    world: &mut World,
    model: ModelId,
    texts: &[Prompt],
    options: &EmbedOptions,
) -> Result<Vec<Result<Embedding, Error>>, Error> {
    let mut batch = EmbeddingBatch::new(model, texts.to_vec(), *options);
    loop {
        match batch.poll(world) {
            Some(embeddings) => return embeddings,
            None => tick_or_rest(world),
        }
    }
}
