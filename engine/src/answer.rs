//! Streaming an answer to a reader outside the world: a [`Stream`] of pieces of text, on any thread.
//!
//! [`subscribe`] puts a [`Subscription`] on a session and returns its reader, [`Pieces`]. At the end of each tick
//! [`publish_answers`] appends new text to a buffer that both share and wakes the reader. A slow reader gets the pieces
//! joined. It does not slow the engine and loses no text. The buffer never holds more than the answer.

use crate::error::Error;
use crate::world::SessionId;
use bevy_ecs::prelude::*;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use futures_core::Stream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weft_components::{FinishReason, Output, Phase, SessionOf};
use weft_systems::fail::LoadFailed;

/// The buffer that a subscription and its reader share.
#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    /// Text that has not been read yet.
    text: String,
    /// How the request ended. No text is added after that.
    end: Option<Result<FinishReason, Error>>,
    /// Called when text or the end is added.
    waker: Option<Waker>,
}

impl Shared {
    /// A poisoned lock is safe to use: every change is a single step, so a panic leaves a valid state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds text and, unless it is already set, the end. Wakes the reader.
    fn add(&self, text: &str, end: Option<Result<FinishReason, Error>>) {
        let mut state = self.lock();
        state.text.push_str(text);
        state.end = state.end.take().or(end);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Publishes a session's answer to a [`Pieces`]. A component of the session while its request is active. If it is
/// removed before the request has ended, the reader gets [`Error::NoSession`].
#[derive(Component)]
#[component(storage = "SparseSet")]
pub struct Subscription {
    shared: Arc<Shared>,
    /// Bytes of the output's text that have been published.
    sent: usize,
}

impl Subscription {
    /// Publishes new text, and the end if the request has ended. `failure` returns why the model could not be loaded.
    /// Returns true if the request has ended or the reader has been dropped.
    pub(crate) fn publish(&mut self, output: &Output, phase: Phase, failure: impl FnOnce() -> Error) -> bool {
        let text = output.text.get(self.sent..).unwrap_or_default();
        let end = match phase {
            Phase::Finished(FinishReason::ModelFailed) => Some(Err(failure())),
            Phase::Finished(reason) => Some(Ok(reason)),
            Phase::Idle | Phase::Waiting | Phase::Prefilling | Phase::Decoding | Phase::Paused => None,
        };
        let ended = end.is_some();
        if ended || !text.is_empty() {
            self.shared.add(text, end);
            self.sent += text.len();
        }
        ended || self.is_abandoned()
    }

    /// Returns true if the reader has been dropped.
    fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Returns true if this is the subscription of `reader`.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn is_of(&self, reader: &Reader) -> bool {
        Arc::ptr_eq(&self.shared, &reader.0)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.add("", Some(Err(Error::NoSession)));
    }
}

/// Identifies a reader, to compare it with a subscription.
#[cfg(not(target_family = "wasm"))]
pub(crate) struct Reader(Arc<Shared>);

/// The text of an answer as it is generated: a [`Stream`] that ends when the request ends. A piece never splits a
/// character.
///
/// Dropping it does not cancel the request. The world only stops publishing text to it.
pub struct Pieces {
    shared: Arc<Shared>,
    end: Option<Result<FinishReason, Error>>,
}

impl Pieces {
    /// Returns why the request ended, once the stream has ended without an error.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.end.as_ref().and_then(|end| end.as_ref().ok().copied())
    }

    /// Returns true if the request has ended, whether or not its text has been read.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some() || self.shared.lock().end.is_some()
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared))
    }
}

impl Stream for Pieces {
    type Item = Result<String, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let mut state = self.shared.lock();
        if !state.text.is_empty() {
            return Poll::Ready(Some(Ok(core::mem::take(&mut state.text))));
        }
        let Some(end) = state.end.clone() else {
            // Stored at every poll: the reader may have moved to another task.
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.end = Some(end.clone());
        Poll::Ready(end.err().map(Err))
    }
}

/// Returns a reader of the answer to the session's request, from the answer's beginning. Text is only generated while
/// the world is ticked: by an [`EngineHandle`](crate::EngineHandle)'s thread, or by the loop that polls the reader.
///
/// # Errors
/// The session has been closed or has no request, or its answer already has a reader.
pub fn subscribe(world: &mut World, session: SessionId) -> Result<Pieces, Error> {
    let mut entity = world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
    match entity.get::<Phase>().ok_or(Error::NoSession)? {
        Phase::Idle => return Err(Error::NothingAsked),
        Phase::Waiting | Phase::Prefilling | Phase::Decoding | Phase::Paused | Phase::Finished(_) => {}
    }
    if entity.get::<Subscription>().is_some_and(|subscription| !subscription.is_abandoned()) {
        return Err(Error::Subscribed);
    }
    let shared = Arc::<Shared>::default();
    entity.insert(Subscription { shared: Arc::clone(&shared), sent: 0 });
    Ok(Pieces { shared, end: None })
}

/// The error of an answer that ended because its model could not be loaded.
pub(crate) fn failure_of(failed: Option<&LoadFailed>) -> Error {
    failed.map_or(Error::NoModel, |failed| Error::Load(Arc::clone(&failed.0)))
}

/// Publishes the tick's new text to readers. Runs in the set `Reclaim`. Visits only sessions with a reader.
pub fn publish_answers(
    mut commands: Commands<'_, '_>,
    mut sessions: Query<'_, '_, (Entity, &mut Subscription, &Output, &Phase, &SessionOf)>,
    failed: Query<'_, '_, &LoadFailed>,
) {
    for (session, mut subscription, output, phase, of) in &mut sessions {
        if subscription.publish(output, *phase, || failure_of(failed.get(of.0).ok())) {
            commands.entity(session).try_remove::<Subscription>();
        }
    }
}
