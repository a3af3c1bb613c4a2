//! A team of threads that share short jobs: the fork under every kernel.
//!
//! One thread, the *leader*, cuts a job into pieces and the helpers take some of them. Between jobs helpers spin for
//! [`SPIN`] before they sleep, so that while a model runs a fork costs two cache-line transfers, some 0.3 µs. A pool
//! whose idle threads sleep or yield, as rayon's do, costs a wake-up of 5 to 50 µs instead, more than most of a
//! decoder's kernels take.
//!
//! `remaining` is the whole protocol. The leader writes the job, then the number of its pieces into `remaining`; who
//! takes `remaining` from `i + 1` to `i` owns piece `i`. The leader returns once as many are done as there were. So
//! whoever owns a piece finds the job alive, and nobody else looks at it.

#![expect(unsafe_code, reason = "a job lives on the leader's stack while other threads run it")]

use core::any::Any;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a helper waits for the next job before it sleeps: longer than what lies between two forks of a tick.
const SPIN: Duration = Duration::from_micros(200);

/// A job with its type erased: `call(data, i)` runs piece `i`.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    data: *const (),
}

/// What leader and helpers share. Each counter has a cache line of its own.
#[derive(Default)]
struct State {
    remaining: Line<AtomicUsize>,
    done: Line<AtomicUsize>,
    job: Line<UnsafeCell<Option<Job>>>,
    sleeping: Line<AtomicUsize>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    lock: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    led: AtomicBool,
}

#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

// SAFETY: `job` is written by the leader while no piece is unclaimed or running, and read by owners of a piece only.
// Its pointer is to a `Sync` closure.
unsafe impl Sync for State {}
// SAFETY: as above.
unsafe impl Send for State {}

impl State {
    /// Takes a piece, if there is one.
    fn claim(&self) -> Option<usize> {
        let mut remaining = self.remaining.0.load(Ordering::Relaxed);
        while remaining > 0 {
            let piece = remaining - 1;
            match self.remaining.0.compare_exchange_weak(
                remaining,
                piece,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(piece),
                Err(now) => remaining = now,
            }
        }
        None
    }

    /// Takes and runs pieces until there are none. A panic is kept for the leader.
    fn work(&self) {
        while let Some(piece) = self.claim() {
            // SAFETY: a piece is ours, so the leader is waiting and does not write.
            let job = unsafe { *self.job.0.get() };
            if let Some(Job { call, data }) = job {
                // SAFETY: the leader made `call` for `data`, which outlives the wait for our piece.
                let result = catch_unwind(AssertUnwindSafe(|| unsafe { call(data, piece) }));
                if let Err(panic) = result {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
            }
            self.done.0.fetch_add(1, Ordering::Release);
        }
    }

    /// A helper's life.
    fn help(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.work();
            let idle = Instant::now();
            while self.remaining.0.load(Ordering::Relaxed) == 0 && !self.stop.load(Ordering::Relaxed) {
                for _ in 0..32 {
                    core::hint::spin_loop();
                }
                if idle.elapsed() > SPIN {
                    self.sleep();
                    break;
                }
            }
        }
    }

    /// Sleeps until there is a job. The order of `sleeping` and `remaining`, here and in `run`, is total: either we
    /// see the job or the leader sees us.
    fn sleep(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleeping.0.fetch_add(1, Ordering::SeqCst);
        while self.remaining.0.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_sleepers(&self) {
        if self.sleeping.0.load(Ordering::SeqCst) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }
}

/// Helpers, and the right to lead them.
pub(crate) struct Team {
    state: Arc<State>,
    helpers: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team with this many helpers.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub(crate) fn new(helpers: usize) -> std::io::Result<Self> {
        let mut team = Self { state: Arc::default(), helpers: Vec::new() };
        for i in 1..=helpers {
            let state = Arc::clone(&team.state);
            let thread = std::thread::Builder::new().name(format!("weft-{i}"));
            team.helpers.push(thread.spawn(move || state.help())?);
        }
        Ok(team)
    }

    /// Makes the caller the leader, unless another thread is.
    pub(crate) fn lead(&self) -> Option<Leader<'_>> {
        let free = !self.state.led.swap(true, Ordering::Acquire);
        free.then_some(Leader { state: &self.state })
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.state.wake_sleepers();
        for helper in self.helpers.drain(..) {
            // A helper catches every panic of a job.
            let _ = helper.join();
        }
    }
}

/// The right to give a team jobs: one thread's at a time.
pub(crate) struct Leader<'a> {
    state: &'a State,
}

impl Leader<'_> {
    /// Runs `f(0)` to `f(pieces - 1)` on the team and returns when all are done. Panics if one did.
    pub(crate) fn run<F: Fn(usize) + Sync>(&mut self, pieces: usize, f: &F) {
        /// Piece `i` of the closure behind `data`.
        ///
        /// # Safety
        /// `data` is a `&F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), i: usize) {
            // SAFETY: the caller's promise.
            unsafe { (*data.cast::<F>())(i) }
        }
        let state = self.state;
        let data: *const F = f;
        // SAFETY: we are the only leader, and the last job's pieces are all done: nobody reads.
        unsafe { *state.job.0.get() = Some(Job { call: call::<F>, data: data.cast() }) };
        state.done.0.store(0, Ordering::Relaxed);
        state.remaining.0.store(pieces, Ordering::SeqCst);
        state.wake_sleepers();
        state.work();
        let mut spins = 0u32;
        while state.done.0.load(Ordering::Acquire) < pieces {
            spins += 1;
            // A helper that lost its core to another program needs one to finish.
            if spins.is_multiple_of(4096) { std::thread::yield_now() } else { core::hint::spin_loop() }
        }
        let panic = state.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.state.led.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_runs_once_and_nothing_runs_late() {
        let team = Team::new(3).unwrap();
        let mut leader = team.lead().unwrap();
        assert!(team.lead().is_none());
        for round in 0..20_000usize {
            let pieces = round % 9;
            // On this stack frame, gone after the round: a late reader would see other numbers.
            let hits: [AtomicUsize; 9] = core::array::from_fn(|_| AtomicUsize::new(0));
            leader.run(pieces, &|i| {
                hits[i].fetch_add(round + 1, Ordering::Relaxed);
            });
            for (i, hit) in hits.iter().enumerate() {
                assert_eq!(hit.load(Ordering::Relaxed), if i < pieces { round + 1 } else { 0 });
            }
            if round.is_multiple_of(4000) {
                // Long enough for the helpers to fall asleep.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        drop(leader);
        assert!(team.lead().is_some());
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_team_goes_on() {
        let team = Team::new(1).unwrap();
        let mut leader = team.lead().unwrap();
        for _ in 0..20 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                leader.run(4, &|i| assert!(i != 2, "piece two"));
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            leader.run(4, &|i| _ = sum.fetch_add(i, Ordering::Relaxed));
            assert_eq!(sum.into_inner(), 6);
        }
    }
}
