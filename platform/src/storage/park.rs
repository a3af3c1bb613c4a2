//! A thread that sleeps until it is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

/// Puts the thread that made it to sleep until its waker is called. A wake before the sleep is not lost.
pub(super) struct Parker(Arc<Flag>);

struct Flag {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Parker {
    /// A parker of the calling thread.
    pub(super) fn new() -> Self {
        Self(Arc::new(Flag { thread: thread::current(), woken: AtomicBool::new(false) }))
    }

    pub(super) fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }

    /// Sleeps until the waker is called; returns at once if it was since the last call. To be called on the thread of
    /// [`Parker::new`].
    pub(super) fn park(&self) {
        while !self.0.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}
