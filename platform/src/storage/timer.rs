//! Wakes tasks at given times.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Instant;

/// A thread that calls wakers at their times. The first alarm starts it; dropping the timer ends it.
#[derive(Debug, Default)]
pub struct Timer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    alarms: Vec<(Instant, Waker)>,
    started: bool,
    dropped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.dropped {
            let now = Instant::now();
            let due: Vec<_> = state.alarms.extract_if(.., |(at, _)| *at <= now).collect();
            if !due.is_empty() {
                // Unlocked first, because a waker may set the next alarm.
                drop(state);
                due.into_iter().for_each(|(_, waker)| waker.wake());
                state = self.lock();
                continue;
            }
            let next = state.alarms.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
            state = match next {
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Timer {
    /// Calls `waker` at the time `at`. If the thread cannot be started, calls it at once; the task then polls in a loop
    /// until `at`.
    pub fn wake_at(&self, at: Instant, waker: &Waker) {
        let mut state = self.0.lock();
        if !state.started {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("weft-timer".to_owned());
            state.started = thread.spawn(move || shared.run()).is_ok();
        }
        if !state.started {
            drop(state);
            waker.wake_by_ref();
        } else if !state.alarms.iter().any(|(time, other)| *time == at && other.will_wake(waker)) {
            state.alarms.push((at, waker.clone()));
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.lock().dropped = true;
        self.0.changed.notify_one();
    }
}
