//! Steady-state decode allocates nothing: counted by the allocator of this program, which holds this test alone.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{golden, loaded, told};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use weft::{GenerateOptions, PAGE, SamplerSettings};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_tick_that_decodes_allocates_nothing() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let settings = [
        SamplerSettings::default(),
        SamplerSettings {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            repetition_penalty: 1.1,
            ..Default::default()
        },
        SamplerSettings { temperature: 0.8, min_p: 0.05, ..Default::default() },
    ];
    let sessions: Vec<_> = settings
        .into_iter()
        .map(|sampler| {
            let session = told(&mut engine, model, &[1, 2, 3]);
            let options = GenerateOptions {
                max_tokens: Some(100),
                ignore_end: true,
                sampler,
                ..GenerateOptions::default()
            };
            engine.generate(session, &options).unwrap();
            session
        })
        .collect();
    // Past the first page's edge, so that the next one is a page away: a page is an entity and may allocate.
    for _ in 0..PAGE + 4 {
        engine.tick();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..PAGE - 8 {
        engine.tick();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    for session in sessions {
        assert!(engine.phase(session).unwrap().is_active());
    }
    assert_eq!(allocations, 0, "in {} ticks", PAGE - 8);
}
