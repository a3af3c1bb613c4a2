//! Pauses between the tries of a read that failed for a transient reason.

use core::task::Waker;
use core::time::Duration;
use web_time::Instant;
#[cfg(not(target_family = "wasm"))]
use weft_platform::storage::Timer;

/// How often a read is retried that failed for a transient reason.
pub(super) const RETRIES: u32 = 3;

/// The pause after so many failed tries, longer each time.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(10 << (2 * tries.min(RETRIES)))
}

/// Wakes the tick at the end of pauses.
#[derive(Default)]
pub(super) struct Pauses {
    #[cfg(not(target_family = "wasm"))]
    timer: Timer,
}

impl Pauses {
    /// Has `waker` called at `at`; at once on platforms without threads, so that the tick polls until then.
    pub(super) fn wake_at(&self, at: Instant, waker: &Waker) {
        #[cfg(not(target_family = "wasm"))]
        self.timer.wake_at(at, waker);
        #[cfg(target_family = "wasm")]
        {
            let _ = at;
            waker.wake_by_ref();
        }
    }
}
