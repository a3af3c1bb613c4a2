//! The thread pool, and the forks of kernels.

use core::sync::atomic::{AtomicUsize, Ordering};
use weft_platform::{Kernels, Pool};

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
                    // Forks inside a fork run on the same thread.
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
