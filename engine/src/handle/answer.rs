//! The answer of a session whose engine runs on its own thread.

use super::EngineHandle;
use super::reply::stopped;
use crate::answer::{Pieces, Subscription};
use crate::error::Error;
use crate::world::{SessionId, cancel};
use core::future::poll_fn;
use core::ops::ControlFlow;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_core::Stream;
use std::thread::JoinHandle;
use weft_components::FinishReason;

/// The text of an answer as it is generated: an [`Iterator`] that blocks until the next piece, and a [`Stream`]. Both
/// end when the request ends. An error is the last item.
///
/// A slow reader gets longer pieces and does not slow the engine. Dropping an answer cancels its request.
pub struct Answer {
    handle: EngineHandle,
    session: SessionId,
    pieces: Pieces,
}

impl Answer {
    pub(super) fn new(handle: EngineHandle, session: SessionId, pieces: Pieces) -> Self {
        Self { handle, session, pieces }
    }

    /// Returns the session of the request.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns why the request ended, once all text has been read without an error.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.pieces.finish_reason()
    }

    /// Blocks until the request has ended and returns all text that has not been read.
    ///
    /// # Errors
    /// The session was closed, its model could not be loaded, the engine's thread has ended, or this is called on that
    /// thread.
    pub fn text(self) -> Result<String, Error> {
        self.collect()
    }

    /// Starts a thread that calls `callback` with each piece until the request ends, or until `callback` returns
    /// `Break`, which cancels the request. The thread returns the finish reason: `Cancelled` after a `Break`. For
    /// thousands of answers use the stream, which needs no thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn on_piece(
        mut self,
        mut callback: impl FnMut(&str) -> ControlFlow<()> + Send + 'static,
    ) -> Result<JoinHandle<Result<FinishReason, Error>>, Error> {
        let listen = move || {
            for piece in &mut self {
                if callback(&piece?).is_break() {
                    return Ok(FinishReason::Cancelled);
                }
            }
            self.finish_reason().ok_or(Error::NoSession)
        };
        let thread = std::thread::Builder::new().name("weft-answer".into()).spawn(listen);
        thread.map_err(|error| Error::NoThread { reason: error.to_string() })
    }
}

impl Stream for Answer {
    type Item = Result<String, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = Pin::new(&mut self.pieces).poll_next(context);
        // When the engine stops, its sessions are dropped. The error then says why the engine stopped.
        let stop = &self.handle.0.stop;
        let running = || stop.lock().is_ok_and(|reason| reason.is_empty());
        match piece {
            Poll::Ready(Some(Err(Error::NoSession))) if !running() => Poll::Ready(Some(Err(stopped(stop)))),
            piece => piece,
        }
    }
}

impl Iterator for Answer {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let handle = self.handle.clone();
        handle
            .block_on(poll_fn(|context| Pin::new(&mut *self).poll_next(context)))
            .unwrap_or_else(|error| Some(Err(error)))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.pieces.has_ended() {
            return;
        }
        let (session, reader) = (self.session, self.pieces.reader());
        self.handle.send(Box::new(move |engine| {
            let world = engine.world_mut();
            // The session may have started a later request, which must go on.
            if world.get::<Subscription>(session.0).is_some_and(|subscription| subscription.is_of(&reader)) {
                // The session exists, so this cannot fail.
                let _ = cancel(world, session);
            }
            true
        }));
    }
}
