//! Threads for kernels: a pool that a tick runs in, and the fork that kernels use inside it.
//!
//! A fork is a tree of `rayon::join`, which allocates nothing. The tick itself runs inside the pool, so that a fork
//! finds the other threads awake. Without threads (wasm, or one core) everything runs on the caller's thread.
//!
//! Invariant: results do not depend on how work is split.

use crate::kernels::Kernels;
use core::fmt;
use core::ops::Range;

/// Pieces of work per thread. With more than one, a thread that another program interrupts delays less than half of the work.
const PIECES: usize = 2;

/// What kernels run with: an instruction set and a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The instruction set.
    pub kernels: &'static Kernels,
    /// Threads to split work over. 1 keeps it on the caller's thread; more take effect only inside [`Pool::install`].
    pub threads: usize,
}

impl Cpu {
    /// The best instruction set of this machine, and the caller's thread alone.
    pub fn serial() -> Self {
        Self { kernels: Kernels::detect(), threads: 1 }
    }

    /// Returns the number of pieces that `n` items are split into, each of at least `grain` items.
    pub(crate) fn pieces(&self, n: usize, grain: usize) -> usize {
        if self.threads <= 1 { 1 } else { (n / grain.max(1)).clamp(1, self.threads.saturating_mul(PIECES)) }
    }

    /// Calls `f` on disjoint ranges that cover `0..n`, in parallel. Each has at least `grain` items if `n` is that large.
    /// Returns when all calls have returned.
    pub fn for_each_chunk<F: Fn(Range<usize>) + Sync>(&self, n: usize, grain: usize, f: F) {
        if n > 0 {
            let pieces = self.pieces(n, grain);
            fork(0..pieces, &|i| f(part(n, pieces, i)));
        }
    }

    /// Calls `f(i, part)` for every part `i` of `part_len` items of `items`, in parallel, with at least `grain` parts per
    /// piece of work. Items past the last whole part are skipped. Returns when all calls have returned.
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
            // Captures the wrapper, not its field: only the wrapper is `Sync`.
            let items = &items;
            for i in range {
                // SAFETY: part `i` is within the slice, which is borrowed for the call, and ranges are disjoint.
                f(i, unsafe { core::slice::from_raw_parts_mut(items.0.add(i * part_len), part_len) });
            }
        });
    }
}

/// Returns range `i` of `pieces` nearly equal ranges that cover `0..n`.
fn part(n: usize, pieces: usize, i: usize) -> Range<usize> {
    let (size, larger) = (n / pieces, n % pieces);
    let start = i * size + i.min(larger);
    start..start + size + usize::from(i < larger)
}

/// Calls `f` for every number in `pieces`, in parallel if other threads are free.
fn fork<F: Fn(usize) + Sync>(pieces: Range<usize>, f: &F) {
    if pieces.len() < 2 {
        pieces.for_each(f);
        return;
    }
    let middle = pieces.start + pieces.len() / 2;
    rayon::join(|| fork(pieces.start..middle, f), || fork(middle..pieces.end, f));
}

/// A pool's threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("could not start {threads} threads: {source}; ask for fewer")]
pub struct PoolError {
    /// Threads asked for.
    pub threads: usize,
    /// The operating system's reason.
    pub source: rayon::ThreadPoolBuildError,
}

/// Worker threads that ticks and kernels run on. A pool of one thread has no worker: work runs on the caller's thread.
pub struct Pool {
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Pool {
    /// Starts `threads` threads, or as many as the machine has cores for 0. On wasm a pool always has one thread.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let threads = match threads {
            _ if cfg!(target_family = "wasm") => 1,
            0 => std::thread::available_parallelism().map_or(1, core::num::NonZero::get),
            n => n,
        };
        let build = || {
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("weft-{i}")).build()
        };
        let pool = match threads {
            1 => None,
            _ => Some(build().map_err(|source| PoolError { threads, source })?),
        };
        Ok(Self { pool, threads })
    }

    /// Returns the number of threads that work is split over.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on a thread of the pool, where forks find the other threads awake. Returns when `f` has returned.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Returns what kernels run with inside [`Pool::install`].
    pub fn cpu(&self, kernels: &'static Kernels) -> Cpu {
        Cpu { kernels, threads: self.threads }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

/// A pointer that threads share. The code that makes one states why its accesses are disjoint.
pub(crate) struct Shared<T>(pub(crate) *mut T);

#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: this is only an address; every access through it is in an unsafe block of its own.
unsafe impl<T: Send> Send for Shared<T> {}
#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}
