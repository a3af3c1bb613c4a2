//! Threads for kernels: a pool that a tick runs in, and the fork that kernels use inside it.
//!
//! A fork is a tree of `rayon::join`, which allocates nothing. The tick itself runs inside the pool, so that a fork
//! finds the other threads awake. Without threads (wasm, or one core) everything runs on the calling thread.
//!
//! Invariant: no result depends on how work is divided.

use crate::kernels::Kernels;
use crate::shared::Shared;
use core::fmt;
use core::ops::Range;

/// Pieces of work per thread. With two, a thread that another program delays holds up less than half of the work.
const PIECES: usize = 2;

/// The instruction set and the number of threads that kernels run with.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The instruction set.
    pub kernels: &'static Kernels,
    /// Threads that share the work; with 1 the calling thread does it all. More than 1 takes effect only inside
    /// [`Pool::install`].
    pub threads: usize,
}

impl Cpu {
    /// The fastest instruction set of this machine, and only the calling thread.
    pub fn serial() -> Self {
        Self { kernels: Kernels::detect(), threads: 1 }
    }

    /// Number of pieces that `n` items are divided into, each of at least `grain`.
    pub(crate) fn pieces(&self, n: usize, grain: usize) -> usize {
        if self.threads <= 1 { 1 } else { (n / grain.max(1)).clamp(1, self.threads.saturating_mul(PIECES)) }
    }

    /// Calls `f` on disjoint ranges that cover `0..n`, in parallel. Each has at least `grain` items if there are as
    /// many. Returns when all calls are done.
    pub fn for_each_chunk<F: Fn(Range<usize>) + Sync>(&self, n: usize, grain: usize, f: F) {
        if n > 0 {
            let pieces = self.pieces(n, grain);
            fork(0..pieces, &|i| f(part(n, pieces, i)));
        }
    }

    /// Calls `f(i, part)` for every part `i` of `part_len` items of `items`, in parallel. A piece of work has at least
    /// `grain` parts. Items past the last whole part are skipped. Returns when all calls are done.
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
            // Borrows the wrapper itself, not its field: the closure must capture the wrapper.
            let items = &items;
            for i in range {
                // SAFETY: part `i` is within the slice, which is borrowed for the call, and ranges are disjoint.
                f(i, unsafe { core::slice::from_raw_parts_mut(items.0.add(i * part_len), part_len) });
            }
        });
    }
}

/// Range `i` of `pieces` almost equal ranges that cover `0..n`.
fn part(n: usize, pieces: usize, i: usize) -> Range<usize> {
    let (size, larger) = (n / pieces, n % pieces);
    let start = i * size + i.min(larger);
    start..start + size + usize::from(i < larger)
}

/// Runs `f(0)` to `f(pieces - 1)`, in parallel if threads are free.
fn fork<F: Fn(usize) + Sync>(pieces: Range<usize>, f: &F) {
    if pieces.len() < 2 {
        pieces.for_each(f);
        return;
    }
    let middle = pieces.start + pieces.len() / 2;
    rayon::join(|| fork(pieces.start..middle, f), || fork(middle..pieces.end, f));
}

/// Why a pool could not be created.
#[derive(Debug, thiserror::Error)]
#[error("could not start {threads} threads: {source}; ask for fewer")]
pub struct PoolError {
    /// Threads that were requested.
    pub threads: usize,
    /// The operating system's error.
    pub source: rayon::ThreadPoolBuildError,
}

/// Worker threads. With one thread there are no workers, and work runs on the calling thread.
pub struct Pool {
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Pool {
    /// Creates a pool of `threads` threads; 0 means as many as the machine has. On wasm there is always one thread.
    ///
    /// # Errors
    /// The operating system refuses a thread.
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

    /// Threads that share the work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on a thread of the pool, where forks find the other threads awake, and waits for it.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// The configuration that kernels run with inside [`Pool::install`].
    pub fn cpu(&self, kernels: &'static Kernels) -> Cpu {
        Cpu { kernels, threads: self.threads }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}
