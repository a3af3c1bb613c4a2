//! Sources as slow as a network.

use super::{check_contract, polled};
use std::num::NonZeroU64;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};
use weft_platform::storage::{MemorySource, Source, ThrottledSource};

fn throttled(len: usize, rate: u64) -> ThrottledSource<MemorySource> {
    ThrottledSource::new(MemorySource::new("slow", vec![3; len]), NonZeroU64::new(rate).unwrap())
}

#[test]
fn keeps_the_contract() {
    check_contract(&throttled(50, u64::MAX), &[3; 50]);
}

#[test]
fn durations_are_exact_and_never_overflow() {
    assert_eq!(throttled(0, 1000).duration(1500), Duration::from_millis(1500));
    assert_eq!(throttled(0, 3).duration(2), Duration::from_nanos(666_666_666));
    assert_eq!(throttled(0, 1).duration(u64::MAX), Duration::from_secs(u64::MAX));
    assert_eq!(throttled(0, u64::MAX).duration(u64::MAX - 1).as_secs(), 0);
}

#[test]
fn readers_share_the_rate() {
    let source = throttled(1000, 10_000);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(source.read(0..250).unwrap().len(), 250));
        }
    });
    // Sleeping is never shorter than asked, so only the lower bound is a promise.
    assert!(start.elapsed() >= Duration::from_millis(99), "{:?}", start.elapsed());
}

#[test]
fn a_poll_waits_for_its_time_and_is_woken() {
    let source = throttled(1000, 10_000);
    let start = Instant::now();
    thread::scope(|scope| {
        for reader in 0..4 {
            let source = &source;
            scope.spawn(move || assert_eq!(polled(source, reader * 250, 250).unwrap(), [3; 250]));
        }
    });
    assert!(start.elapsed() >= Duration::from_millis(99), "{:?}", start.elapsed());
}

#[test]
fn a_poll_does_not_wait() {
    let source = throttled(1000, 1);
    let start = Instant::now();
    let mut cx = Context::from_waker(Waker::noop());
    for offset in 0..500 {
        assert!(source.poll_read(&mut cx, offset, &mut [0; 100]).is_pending());
    }
    drop(source);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
