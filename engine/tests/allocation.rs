//! Steady-state decoding allocates nothing, as counted by this program's allocator. The program holds this test alone.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::adapters::Base;
use common::reference::golden_model;
use common::{golden, loaded_with, synthetic, told};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use weft::synth::SynthShape;
use weft::{
    AdapterId, Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, PAGE, SamplerSettings,
    TickOutcome,
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is forwarded to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's guarantees are forwarded.
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

/// Counts the allocations of the ticks between two pages, with three sessions that decode.
fn allocations(name: &str, threads: usize) -> usize {
    let options = EngineOptions { threads, ..EngineOptions::default() };
    let (engine, model) = loaded_with(&golden(&format!("tiny/{name}.gguf")), &options);
    allocations_of(engine, model, &[None; 3])
}

/// Counts the allocations of a model whose sessions use these adapters.
fn allocations_of(mut engine: Engine, model: ModelId, adapters: &[Option<AdapterId>; 3]) -> usize {
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
    for (sampler, adapter) in settings.into_iter().zip(adapters) {
        let session = told(&mut engine, model, &[1, 2, 3]);
        engine.set_adapter(session, *adapter, 0.5).unwrap();
        let options = GenerateOptions {
            max_tokens: Some(100),
            ignore_end: true,
            sampler,
            ..GenerateOptions::default()
        };
        engine.generate(session, &options).unwrap();
    }
    // Ticks past the first page's end, so that the next page is a whole page away: a page is an entity and may
    // allocate.
    for _ in 0..PAGE + 4 {
        engine.tick();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..TICKS {
        assert_eq!(engine.tick(), TickOutcome::Advanced);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

const TICKS: usize = PAGE - 8;

#[test]
fn a_tick_that_decodes_allocates_nothing() {
    // A tick enters the thread pool through a queue of rayon's, which consists of blocks of 63 entries.
    let entering = TICKS.div_ceil(63);
    for name in ["tiny-llama", "tiny-gemma3", "tiny-qwen2moe"] {
        assert_eq!(allocations(name, 1), 0, "{name} in {TICKS} ticks on one thread");
        assert!(allocations(name, 2) <= entering, "{name} in {TICKS} ticks on two threads");
    }
    // A vocabulary large enough that rows are sampled on several threads.
    let shape = SynthShape { vocabulary: 40_000, ..SynthShape::default() };
    let mut engine = Engine::new(&EngineOptions { threads: 2, ..EngineOptions::default() }).unwrap();
    let model = engine.load(synthetic(&shape, "q8_0"), &LoadOptions::default()).unwrap();
    engine.wait_loaded(model).unwrap();
    assert!(allocations_of(engine, model, &[None; 3]) <= entering, "rows chosen from on two threads");
    // One session without an adapter, and two with different ones.
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    let mut base = Base::load("llama", golden_model("hf/llama.gguf"), &options, &LoadOptions::default());
    base.engine.wait_loaded(base.model).unwrap();
    let adapters = [None, Some(base.adapter("llama-all.gguf")), Some(base.adapter("llama-qv.gguf"))];
    assert_eq!(allocations_of(base.engine, base.model, &adapters), 0, "adapters in {TICKS} ticks");
}
