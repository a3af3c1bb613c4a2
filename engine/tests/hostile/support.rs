//! Shared by the hostile tests: the tiny model, complete or behind a gate, and checks of the engine's state.

use crate::common::{golden, golden_json, greedy, ids, poll_by_reading, told};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use weft::components::{AtLayer, BlockTable, KvPage, KvPools, Wave};
use weft::storage::{Bytes, MemorySource, Source, StorageError};
use weft::{
    Engine, EngineOptions, FinishReason, GenerateOptions, LoadOptions, ModelId, ModelSource, PAGE, Phase,
    SessionId, TickOutcome,
};

pub(crate) static TINY: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(golden("tiny/tiny-llama.gguf")).unwrap());
pub(crate) static TOKENS: LazyLock<Vec<u32>> =
    LazyLock::new(|| ids(&golden_json("tiny/tiny-llama.json")["tokens"]));

/// A file in memory whose last layer is withheld until the gate is opened.
pub(crate) struct Gate {
    file: MemorySource,
    from: u64,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Source for Gate {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn poll_read(
        &self,
        _: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        poll_by_reading(self, offset, buffer)
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.start >= self.from {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        self.file.read(range)
    }
}

/// Opens the gate when a test ends, so that no loader waits forever.
pub(crate) struct Gatekeeper(Arc<Gate>);

impl Gatekeeper {
    pub(crate) fn open(&self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.open();
    }
}

/// The tiny model behind a gate before its last layer.
pub(crate) fn gated() -> (ModelSource, Gatekeeper) {
    let file = MemorySource::new("tiny", TINY.clone());
    let whole: Vec<Arc<dyn Source>> = vec![Arc::new(file.clone())];
    let from = weft::gguf::Gguf::read(&whole).unwrap().tensor("blk.2.attn_norm.weight").unwrap().range.start;
    let gate = Arc::new(Gate { file, from, open: Mutex::new(false), opened: Condvar::new() });
    (ModelSource::Parts(vec![Arc::clone(&gate) as Arc<dyn Source>]), Gatekeeper(gate))
}

pub(crate) fn asks(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerateOptions::default() }
}

pub(crate) fn engine(max_rows: usize) -> Engine {
    Engine::new(&EngineOptions { threads: 1, max_rows: Some(max_rows), ..EngineOptions::default() }).unwrap()
}

pub(crate) fn load(engine: &mut Engine, source: impl Into<ModelSource>, kv_tokens: usize) -> ModelId {
    let options = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
    engine.load(source, &options).unwrap()
}

/// An engine with the tiny model completely loaded and a KV cache of `pages` pages.
pub(crate) fn cramped(pages: usize, max_rows: usize) -> (Engine, ModelId) {
    let mut engine = engine(max_rows);
    let model = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), pages * PAGE);
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

/// What the model generates after `tokens` in a session that runs alone.
pub(crate) fn alone(tokens: &[u32], count: usize) -> Vec<u32> {
    let (mut engine, model) = cramped(16, 512);
    greedy(&mut engine, model, tokens, count)
}

/// The position of the model's wave.
pub(crate) fn standing(engine: &mut Engine) -> AtLayer {
    engine.world_mut().query::<&Wave>().single(engine.world()).unwrap().at
}

/// An engine whose wave holds the first `rows` tokens of a request with `options` and waits for the last layer.
pub(crate) fn held_up(rows: usize, options: &GenerateOptions) -> (Engine, ModelId, SessionId, Gatekeeper) {
    let (source, gate) = gated();
    let mut engine = engine(512);
    let model = load(&mut engine, source, 16 * PAGE);
    let session = told(&mut engine, model, &TOKENS[..rows]);
    engine.generate(session, options).unwrap();
    hold_up(&mut engine);
    (engine, model, session, gate)
}

pub(crate) fn hold_up(engine: &mut Engine) {
    let start = Instant::now();
    while standing(engine) != AtLayer::Layer(2) {
        engine.tick();
        assert!(start.elapsed() < Duration::from_secs(10), "the wave never reached the gate");
    }
}

/// Ticks until the session's request has ended, up to a maximum number of ticks.
pub(crate) fn finish(engine: &mut Engine, session: SessionId) -> FinishReason {
    let start = Instant::now();
    loop {
        if let Phase::Finished(reason) = engine.phase(session).unwrap() {
            return reason;
        }
        if engine.tick() != TickOutcome::Advanced {
            std::thread::sleep(Duration::from_micros(50));
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the session never finished");
    }
}

/// Checks the pages: each is free or in one run, and block tables name none that is free.
pub(crate) fn check_pages(engine: &mut Engine, model: ModelId) {
    let world = engine.world_mut();
    let held: Vec<u32> = world.query::<&KvPage>().iter(world).map(|page| page.slot).collect();
    let tables: HashSet<u32> = world
        .query::<&BlockTable>()
        .iter(world)
        .flat_map(|table| table.0.iter().flatten().copied())
        .collect();
    let Some(pool) = world.get::<KvPools>(model.0) else {
        assert!(held.is_empty() && tables.is_empty(), "pages outlive their model");
        return;
    };
    assert_eq!(pool.free() + held.len(), pool.capacity(), "pages are lost or doubled");
    let distinct: HashSet<u32> = held.iter().copied().collect();
    assert_eq!(distinct.len(), held.len(), "a slot has two pages");
    assert!(tables.is_subset(&distinct), "a table names a page that is free");
}

/// What the model generates after some tokens, computed once and cached.
pub(crate) fn reference(tokens: &[u32], count: usize) -> Vec<u32> {
    static KNOWN: LazyLock<Mutex<HashMap<(Vec<u32>, usize), Vec<u32>>>> = LazyLock::new(Mutex::default);
    thread_local! {
        static ALONE: std::cell::RefCell<(Engine, ModelId)> = std::cell::RefCell::new(cramped(16, 512));
    }
    let key = (tokens.to_vec(), count);
    if let Some(found) = KNOWN.lock().unwrap().get(&key) {
        return found.clone();
    }
    let found = ALONE.with_borrow_mut(|(engine, model)| greedy(engine, *model, tokens, count));
    KNOWN.lock().unwrap().insert(key, found.clone());
    found
}

/// Peak resident memory of the process in bytes; 0 if the operating system does not report it.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
