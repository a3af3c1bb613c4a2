//! Memory, as counted by this program's allocator: steady-state decoding allocates nothing, and loading from a source that is
//! polled takes little beside the weights.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::adapters::Base;
use common::polled::{dripping, fed, feed, prepared};
use common::reference::golden_model;
use common::{golden, loaded_with, synthetic, told};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use weft::storage::FileSource;
use weft::synth::{Synth, SynthShape};
use weft::{
    AdapterId, Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, ModelSource, PAGE,
    SamplerSettings, TickOutcome,
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes that are allocated now, and the most since [`PEAK`] was last set.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Held by the test that counts.
static ALONE: Mutex<()> = Mutex::new(());

fn more(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

struct Counting;

// SAFETY: every call is forwarded to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        more(layout.size());
        // SAFETY: the caller's guarantees are forwarded.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // Both exist while one is copied to the other.
        more(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
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
            max_tokens: Some(200),
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
    // The fewest of some pages: a thread of the loader that ends may allocate meanwhile, but not for long.
    let mut page = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..TICKS {
            assert_eq!(engine.tick(), TickOutcome::Advanced);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        for _ in TICKS..PAGE {
            engine.tick();
        }
        allocations
    };
    (0..4).map(|_| page()).min().unwrap_or_default()
}

const TICKS: usize = PAGE - 8;

#[test]
fn a_tick_that_decodes_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Loads a model from a source that is polled. Returns the most bytes that were allocated meanwhile, and the bytes of its
/// weights. `wait` is called wherever there is nothing to do before more bytes come.
fn peak_of_load(source: ModelSource, mut wait: impl FnMut()) -> (usize, u64) {
    let mut engine = Engine::new(&EngineOptions { threads: 2, ..EngineOptions::default() }).unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let model = engine.load_prepared(prepared(source, &LoadOptions::default(), &mut wait)).unwrap();
    while !engine.progress(model).unwrap().is_complete() {
        engine.tick();
        wait();
    }
    let peak = PEAK.load(Ordering::Relaxed) - before;
    (peak, engine.host_memory(model).unwrap().weights)
}

/// Matrices are in mappings of their own, which take what [`weft::HostMemory`] says and which the allocator does not see. So
/// all that it counts is beside them: vectors, tokenizer, buffers, entities.
#[test]
fn loading_by_polling_takes_less_than_4_mb_beside_the_weights() {
    const MOST: usize = 4_000_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let shape = SynthShape {
        layers: 8,
        embedding: 1024,
        feed_forward: 4096,
        heads: 16,
        kv_heads: 4,
        vocabulary: 2048,
        ..SynthShape::default()
    };
    for format in ["q8_0", "q4_0"] {
        let plan = Synth::new("m.gguf", "llama", &shape, Synth::format(format).unwrap(), 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        plan.write(std::fs::File::create(&path).unwrap(), 2, |_| ControlFlow::Continue(())).unwrap();
        let file = FileSource::open(&path).unwrap();
        let (source, feeder) = fed(&file);
        let loads = [("1 MiB a poll", dripping(path.as_path(), 1 << 20)), ("fed", source)];
        for (how, source) in loads {
            let (peak, weights) = peak_of_load(source, || feed(&feeder, &file));
            println!("{format}, {how}: {peak} bytes beside {weights}");
            assert!(weights > 64_000_000, "{weights}");
            assert!(peak < MOST, "{format}, {how}: {peak} bytes beside {weights}");
        }
    }
}
