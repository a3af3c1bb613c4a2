//! The result of a command: a future completed by the engine's thread.

use crate::error::Error;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the engine's thread has ended; empty while it runs. Set before the engine is dropped.
pub(super) type Stop = Arc<Mutex<String>>;

/// Returns the error of a command that the engine's thread did not run.
pub(super) fn stopped(stop: &Stop) -> Error {
    Error::EngineStopped { reason: stop.lock().unwrap_or_else(PoisonError::into_inner).clone() }
}

enum Slot<R> {
    /// No result yet. The waker is called when there is one.
    Empty(Option<Waker>),
    Full(Result<R, Error>),
    /// There will be no result, or it has been taken.
    Closed,
}

type Shared<R> = Arc<Mutex<Slot<R>>>;

/// A poisoned lock is safe to use: every change is a single step, so a panic leaves a valid slot.
fn lock<R>(slot: &Shared<R>) -> MutexGuard<'_, Slot<R>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a command sent to an [`EngineHandle`](super::EngineHandle): a future. [`Reply::wait`] blocks on it
/// without an executor.
#[must_use = "a reply says whether the command worked"]
pub struct Reply<R> {
    slot: Shared<R>,
    stop: Stop,
}

/// The sending end of a [`Reply`], on the engine's thread.
pub(super) struct ReplySender<R>(Shared<R>);

/// Creates both ends of a reply.
pub(super) fn pair<R>(stop: Stop) -> (ReplySender<R>, Reply<R>) {
    let slot = Arc::new(Mutex::new(Slot::Empty(None)));
    (ReplySender(Arc::clone(&slot)), Reply { slot, stop })
}

impl<R> ReplySender<R> {
    pub(super) fn send(self, result: Result<R, Error>) {
        self.put(Slot::Full(result));
    }

    /// Returns true if the [`Reply`] has been dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Puts `content` into the slot if it is empty, and wakes the task that waits for it.
    fn put(&self, content: Slot<R>) {
        let mut slot = lock(&self.0);
        if let Slot::Empty(waker) = &mut *slot {
            let waker = waker.take();
            *slot = content;
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<R> Drop for ReplySender<R> {
    fn drop(&mut self) {
        self.put(Slot::Closed);
    }
}

impl<R> Reply<R> {
    /// Blocks until the result is there. Must not be called on the engine's thread, which would wait for itself
    /// forever.
    ///
    /// # Errors
    /// The command panicked, or the engine's thread has ended.
    pub fn wait(self) -> Result<R, Error> {
        pollster::block_on(self)
    }
}

impl<R> Future for Reply<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        match core::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Empty(_) => {
                *slot = Slot::Empty(Some(context.waker().clone()));
                Poll::Pending
            }
            Slot::Full(result) => Poll::Ready(result),
            Slot::Closed => Poll::Ready(Err(stopped(&self.stop))),
        }
    }
}
