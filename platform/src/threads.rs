//! Threads for kernels: a pool to run a tick in, and the fork that kernels use inside it.
//!
//! [`Pool::install`] makes the calling thread the leader of the pool's helpers; forks inside it share work with them
//! and allocate nothing. Outside of it, on other threads, inside another fork, or without threads (wasm, or one core)
//! everything runs in the caller.
//!
//! Invariant: how work is split never shows in a result.

use crate::kernels::Kernels;
use crate::team::{Leader, Team};
use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use core::ptr;

/// Pieces a thread: a thread that another program disturbs then holds up less than half of the work.
const PIECES: usize = 2;

thread_local! {
    /// The team that this thread leads; null outside of [`Pool::install`] and inside a fork.
    static LEADER: Cell<*mut Leader<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// What kernels run with: an instruction set and a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The instruction set.
    pub kernels: &'static Kernels,
    /// Threads to split work over; 1 keeps it in the caller. More take effect inside [`Pool::install`] only.
    pub threads: usize,
}

impl Cpu {
    /// The best instruction set of this machine, and the caller's thread alone.
    pub fn serial() -> Self {
        Self { kernels: Kernels::detect(), threads: 1 }
    }

    /// How many pieces `n` items make, each of at least `grain`.
    pub(crate) fn pieces(&self, n: usize, grain: usize) -> usize {
        if self.threads <= 1 { 1 } else { (n / grain.max(1)).clamp(1, self.threads.saturating_mul(PIECES)) }
    }

    /// Calls `f` on disjoint ranges that cover `0..n`, in parallel, each of at least `grain` items where there are
    /// as many. Returns when all are done.
    pub fn for_each_chunk<F: Fn(Range<usize>) + Sync>(&self, n: usize, grain: usize, f: F) {
        if n > 0 {
            let pieces = self.pieces(n, grain);
            fork(pieces, &|i| f(part(n, pieces, i)));
        }
    }

    /// Calls `f(i, part)` for every part `i` of `part_len` items of `items`, in parallel, `grain` parts at least to
    /// a piece of work. Items past the last whole part are left. Returns when all are done.
    #[expect(unsafe_code, reason = "threads get disjoint parts of one slice")]
    pub fn for_each_part<T: Send, F: Fn(usize, &mut [T]) + Sync>(
        &self,
        items: &mut [T],
        part_len: usize,
        grain: usize,
        f: F,
    ) {
        let parts = items.len().checked_div(part_len).unwrap_or(0);
        let items = Shared(items.as_mut_ptr());
        self.for_each_chunk(parts, grain, |range| {
            // Whole, not its field: the closure must share the wrapper.
            let items = &items;
            for i in range {
                // SAFETY: part `i` is within the slice, which is borrowed for the call, and ranges are disjoint.
                f(i, unsafe { core::slice::from_raw_parts_mut(items.0.add(i * part_len), part_len) });
            }
        });
    }
}

/// Range `i` of `pieces` nearly equal ones that cover `0..n`.
fn part(n: usize, pieces: usize, i: usize) -> Range<usize> {
    let (size, larger) = (n / pieces, n % pieces);
    let start = i * size + i.min(larger);
    start..start + size + usize::from(i < larger)
}

/// Runs `f(0)` to `f(pieces - 1)`, on the team where this thread leads one.
#[expect(unsafe_code, reason = "the leader is reached through the thread")]
fn fork<F: Fn(usize) + Sync>(pieces: usize, f: &F) {
    let leader = if pieces > 1 { LEADER.replace(ptr::null_mut()) } else { ptr::null_mut() };
    if leader.is_null() {
        for i in 0..pieces {
            f(i);
        }
        return;
    }
    // Gives the leader back however the job ends; forks inside the job find none.
    let _back = Back(leader);
    // SAFETY: `install` put the pointer there and keeps the leader until it has taken the pointer away. It was taken
    // out of the cell, so this is the only use.
    unsafe { (*leader).run(pieces, f) };
}

/// Puts a leader back into its thread.
struct Back(*mut Leader<'static>);

impl Drop for Back {
    fn drop(&mut self) {
        LEADER.set(self.0);
    }
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not start {threads} threads: {source}; ask for fewer")]
pub struct PoolError {
    /// Threads asked for.
    pub threads: usize,
    /// The system's reason.
    pub source: std::io::Error,
}

/// Worker threads. With one thread there are none and work runs in the caller.
pub struct Pool {
    team: Option<Team>,
    threads: usize,
}

impl Pool {
    /// A pool of `threads`, the caller of [`Pool::install`] included, or of as many as the machine has for 0.
    /// On wasm there is one thread, whatever is asked for.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let threads = match threads {
            _ if cfg!(target_family = "wasm") => 1,
            0 => std::thread::available_parallelism().map_or(1, core::num::NonZero::get),
            n => n,
        };
        let team = match threads {
            1 => None,
            _ => Some(Team::new(threads - 1).map_err(|source| PoolError { threads, source })?),
        };
        Ok(Self { team, threads })
    }

    /// Threads that work is split over.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` in this thread with the pool's helpers at hand for its forks.
    ///
    /// Where another thread is inside `install` of this pool, `f` runs without helpers.
    pub fn install<R>(&self, f: impl FnOnce() -> R) -> R {
        let Some(mut leader) = self.team.as_ref().and_then(Team::lead) else {
            return f();
        };
        let pointer: *mut Leader<'_> = &raw mut leader;
        // What the thread led before, put back before `leader` is dropped, even if `f` panics.
        let _before = Back(LEADER.replace(pointer.cast()));
        f()
    }

    /// What kernels run with inside [`Pool::install`].
    pub fn cpu(&self, kernels: &'static Kernels) -> Cpu {
        Cpu { kernels, threads: self.threads }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

/// A pointer that threads share. Whoever makes one says why what they do with it is disjoint.
pub(crate) struct Shared<T>(pub(crate) *mut T);

#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: only an address; every use of it is in an unsafe block of its own.
unsafe impl<T: Send> Send for Shared<T> {}
#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn chunks_cover_everything_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            let cpu = pool.cpu(Kernels::detect());
            for (n, grain) in [(0, 1), (1, 1), (7, 2), (100, 3), (3, 1000)] {
                let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                let mut parts = vec![0; 3 * n + 2];
                pool.install(|| {
                    cpu.for_each_chunk(n, grain, |range| {
                        // Forks inside a fork run in place.
                        cpu.for_each_chunk(range.len(), 1, |inner| {
                            for i in inner {
                                hits[range.start + i].fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    });
                    cpu.for_each_part(&mut parts, 3, grain, |i, part| part.fill(i + 1));
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{threads} {n} {grain}");
                let want = |(i, v): (usize, &usize)| *v == if i < 3 * n { i / 3 + 1 } else { 0 };
                assert!(parts.iter().enumerate().all(want), "{threads} {n} {grain}");
            }
        }
    }

    #[test]
    fn threads_that_install_at_once_all_finish() {
        let pool = Pool::new(2).unwrap();
        let cpu = pool.cpu(Kernels::detect());
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.install(|| {
                            cpu.for_each_chunk(10, 1, |range| {
                                sum.fetch_add(range.len(), Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 6000);
    }

    #[test]
    fn a_panic_leaves_the_pool_usable() {
        let pool = Pool::new(2).unwrap();
        let cpu = pool.cpu(Kernels::detect());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| cpu.for_each_chunk(4, 1, |range| assert!(range.start != 1)));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.install(|| cpu.for_each_chunk(4, 1, |r| _ = sum.fetch_add(r.len(), Ordering::Relaxed)));
        assert_eq!(sum.into_inner(), 4);
    }
}
