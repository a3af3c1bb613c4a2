//! Blocks a thread until a waker is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

/// Blocks the thread that created it until its waker is called. A wake before the sleep is not lost.
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
    /// Creates a parker of the calling thread.
    pub(super) fn new() -> Self {
        Self(Arc::new(Flag { thread: thread::current(), woken: AtomicBool::new(false) }))
    }

    pub(super) fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }

    /// Sleeps until the waker is called. Returns at once if it was called since the last `park`. Call it on the thread
    /// that called [`Parker::new`].
    pub(super) fn park(&self) {
        while !self.0.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}
