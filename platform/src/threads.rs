//! Threads for kernels: a pool to run a tick in, and the fork that kernels use inside it.
//!
//! A fork is a tree of `rayon::join`, which allocates nothing. The tick itself runs inside the pool, so that a fork
//! finds the other workers awake. Without threads (wasm, or one core) everything runs in the caller.
//!
//! Invariant: how work is split never shows in a result.

use crate::kernels::Kernels;
use core::ops::Range;

/// What kernels run with: an instruction set and a number of threads.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// The instruction set.
    pub kernels: &'static Kernels,
    /// Threads to split work over; 1 keeps it in the caller.
    pub threads: usize,
}

impl Cpu {
    /// The best instruction set of this machine, and the caller's thread alone.
    pub fn serial() -> Self {
        Self {
            kernels: Kernels::detect(),
            threads: 1,
        }
    }

    /// Calls `f` on disjoint ranges that cover `0..n`, in parallel, each of at least `grain` items where there are
    /// as many. Returns when all are done.
    pub fn for_each_chunk<F: Fn(Range<usize>) + Sync>(&self, n: usize, grain: usize, f: F) {
        let pieces = if self.threads <= 1 {
            1
        } else {
            (n / grain.max(1)).clamp(1, self.threads * PIECES)
        };
        if n > 0 {
            split(0..n, pieces, &f);
        }
    }

    /// Calls `f(i, part)` for every part `i` of `part_len` items of `items`, in parallel, `grain` parts at least to
    /// a piece of work. Returns when all are done.
    pub fn for_each_part<T: Send, F: Fn(usize, &mut [T]) + Sync>(
        &self,
        items: &mut [T],
        part_len: usize,
        grain: usize,
        f: F,
    ) {
        let parts = items.len() / part_len.max(1);
        let pieces = if self.threads <= 1 {
            1
        } else {
            (parts / grain.max(1)).clamp(1, self.threads * PIECES)
        };
        split_parts(items, 0, part_len.max(1), pieces, &f);
    }

    /// Both, in parallel where there are threads.
    pub fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        if self.threads <= 1 {
            (a(), b())
        } else {
            rayon::join(a, b)
        }
    }
}

/// Pieces a thread: a thread that another program disturbs then holds up less than half of the work.
const PIECES: usize = 2;

fn split<F: Fn(Range<usize>) + Sync>(range: Range<usize>, pieces: usize, f: &F) {
    if pieces <= 1 {
        return f(range);
    }
    let left = pieces / 2;
    let middle = range.start + range.len() * left / pieces;
    let (start, end) = (range.start, range.end);
    rayon::join(
        || split(start..middle, left, f),
        || split(middle..end, pieces - left, f),
    );
}

fn split_parts<T: Send, F: Fn(usize, &mut [T]) + Sync>(
    items: &mut [T],
    first: usize,
    part_len: usize,
    pieces: usize,
    f: &F,
) {
    if pieces <= 1 {
        for (i, part) in items.chunks_exact_mut(part_len).enumerate() {
            f(first + i, part);
        }
        return;
    }
    let left = pieces / 2;
    let middle = items.len() / part_len * left / pieces;
    let (a, b) = items.split_at_mut(middle * part_len);
    rayon::join(
        || split_parts(a, first, part_len, left, f),
        || split_parts(b, first + middle, part_len, pieces - left, f),
    );
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not start {threads} threads: {source}; ask for fewer")]
pub struct PoolError {
    /// Threads asked for.
    pub threads: usize,
    /// The system's reason.
    pub source: rayon::ThreadPoolBuildError,
}

/// Worker threads. With one thread there are none and work runs in the caller.
pub struct Pool {
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Pool {
    /// A pool of `threads`, or of as many as the machine has for 0.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, core::num::NonZero::get),
            n => n,
        };
        if threads == 1 {
            return Ok(Self { pool: None, threads });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("weft-{i}"))
            .build()
            .map_err(|source| PoolError { threads, source })?;
        Ok(Self {
            pool: Some(pool),
            threads,
        })
    }

    /// Threads that work is split over.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on a worker, so that its forks are cheap, and waits for it.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// What kernels run with inside [`Pool::install`].
    pub fn cpu(&self, kernels: &'static Kernels) -> Cpu {
        Cpu {
            kernels,
            threads: self.threads,
        }
    }
}

/// A pointer that threads share. Whoever makes one says why what they do with it is disjoint.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) *mut f32);

#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: only an address; every use of it is in an unsafe block of its own.
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn chunks_cover_everything_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            for (n, grain) in [(0, 1), (1, 1), (7, 2), (100, 3), (3, 1000)] {
                let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.install(|| {
                    pool.cpu(Kernels::detect()).for_each_chunk(n, grain, |range| {
                        for i in range {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
                assert!(
                    hits.iter().all(|h| h.load(Ordering::Relaxed) == 1),
                    "{threads} {n} {grain}"
                );
            }
        }
    }
}
