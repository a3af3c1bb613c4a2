//! Wakes tasks at a time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Instant;

/// A thread that calls wakers when their time has come. It is started by the first alarm and ends when the timer is dropped.
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
                // A waker may set the next alarm at once.
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
    /// Has `waker` called at `at`. Where no thread can be started it is called at once, and the task polls until then.
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
