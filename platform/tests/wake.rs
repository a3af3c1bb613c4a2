//! A signal that is raised is never lost.

use std::sync::Arc;
use std::time::Duration;
use weft_platform::Signal;

#[test]
fn a_notify_before_the_wait_ends_it_at_once() {
    let signal = Signal::new();
    signal.notify();
    signal.notify();
    signal.wait();
    assert!(!signal.take(), "two notifies before a wait are one");
    assert!(!signal.wait_timeout(Duration::from_millis(1)));
}

#[test]
fn a_waker_of_another_thread_ends_the_wait() {
    let signal = Signal::new();
    let waker = signal.waker();
    let thread = std::thread::spawn(move || waker.wake());
    signal.wait();
    thread.join().unwrap();
    signal.waker().wake_by_ref();
    assert!(signal.wait_timeout(Duration::ZERO));
}

#[test]
fn threads_that_take_turns_lose_no_signal() {
    let (ping, pong) = (Signal::new(), Signal::new());
    let (theirs, ours) = (Arc::clone(&ping), Arc::clone(&pong));
    let thread = std::thread::spawn(move || {
        for _ in 0..1000 {
            theirs.wait();
            ours.notify();
        }
    });
    for _ in 0..1000 {
        ping.notify();
        pong.wait();
    }
    thread.join().unwrap();
}
