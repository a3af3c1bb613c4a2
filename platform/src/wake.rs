//! Waking a thread that has nothing to do: a flag that one thread waits for and any thread raises.
//!
//! A loader that has a shard, a GPU that has finished a step and a command from another thread all raise the same
//! [`Signal`], so the engine's thread waits for one thing.
//!
//! Invariant: a [`Signal::notify`] is never lost. One that comes while nobody waits makes the next wait return at once.

#[cfg(not(target_family = "wasm"))]
use core::time::Duration;
#[cfg(not(target_family = "wasm"))]
use std::sync::Condvar;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// A flag that stays raised until a wait takes it down. Shared between threads in an [`Arc`]; one thread waits for it.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Mutex<bool>,
    #[cfg(not(target_family = "wasm"))]
    changed: Condvar,
}

impl Signal {
    /// A signal that nobody has raised.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Raises the flag and wakes the thread that waits for it. Raising it again before that thread runs has no further effect.
    pub fn notify(&self) {
        *self.lock() = true;
        #[cfg(not(target_family = "wasm"))]
        self.changed.notify_all();
    }

    /// Takes the flag down. Returns true if it was raised. Never waits.
    pub fn take(&self) -> bool {
        core::mem::take(&mut *self.lock())
    }

    /// Waits until the flag is raised and takes it down.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&self) {
        let mut raised = self.lock();
        while !*raised {
            raised = self.changed.wait(raised).unwrap_or_else(PoisonError::into_inner);
        }
        *raised = false;
    }

    /// Waits until the flag is raised, at most for `timeout`, and takes it down. Returns true if it was raised.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let (mut raised, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |raised| !*raised)
            .unwrap_or_else(PoisonError::into_inner);
        core::mem::take(&mut *raised)
    }

    /// A waker that raises the flag, for a future that the waiting thread drives.
    pub fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }

    /// A thread that panicked while it held the lock has left a valid flag: it is a single value.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
