//! Models from sources that have to be polled: they hand out a few bytes at a time, and often none.
//!
//! How much memory such a load takes is measured in `allocation.rs`.

mod http;

use crate::architectures::references;
use crate::common::embedding::{self, ENCODERS, difference, prompts, reference_states, texts};
use crate::common::polled::{dripping, fed, feed, load, prepared};
use crate::common::reference::{MOST_DIFFERENCE, difference_from, tiny_agrees_on};
use crate::common::requests::{asks, tiny};
use crate::common::{golden, golden_json, greedy, ids, loaded, logits, told};
use crate::folders;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use weft::storage::{FileSource, Source, StorageError};
use weft::{
    EmbedOptions, Engine, EngineOptions, Error, FinishReason, KvFormat, LoadOptions, ModelId, ModelSource,
    Pooling, PreparedModelReader, stages,
};

/// Most bytes of a read: more than a piece of any shard, and fewer.
const MOST: [usize; 2] = [1 << 20, 1000];

fn engine() -> Engine {
    Engine::new(&EngineOptions { threads: 2, ..EngineOptions::default() }).unwrap()
}

/// A model of a path, loaded by polling alone.
fn polled(path: &Path, most: usize, options: &LoadOptions) -> (Engine, ModelId) {
    let mut engine = engine();
    let model = load(&mut engine, dripping(path, most), options);
    (engine, model)
}

#[test]
fn tiny_models_agree_with_llama_cpp() {
    for name in references("tiny") {
        let path = golden(&format!("tiny/{name}.gguf"));
        if name.ends_with("-exact") {
            continue;
        }
        for most in MOST {
            let (mut polled, model) = polled(&path, most, &LoadOptions::default());
            if !name.starts_with("tiny-llama-") {
                tiny_agrees_on(&name, &mut polled, model);
                continue;
            }
            // The files of a single format: `tiny.rs` compares them with their references.
            let tokens = ids(&golden_json(&format!("tiny/{name}.json"))["tokens"]);
            let positions: Vec<usize> = (0..tokens.len()).collect();
            let found = logits(&mut polled, model, &tokens, &positions, 0);
            let (mut read, model) = loaded(&path);
            assert!(found == logits(&mut read, model, &tokens, &positions, 0), "{name}");
        }
    }
}

#[test]
fn models_agree_with_transformers() {
    for name in references("hf") {
        let reference = golden_json(&format!("hf/{name}.json"));
        let path = golden(&format!("hf/{}", reference["model"].as_str().unwrap()));
        for most in MOST {
            let source = dripping(path.as_path(), most);
            let found = difference_from(&reference, &name, source, &mut engine(), KvFormat::F32).largest;
            assert!(found <= MOST_DIFFERENCE, "{name}: {found:.1e}");
        }
    }
}

#[test]
fn folders_agree_with_transformers() {
    for name in folders::names() {
        let (folder, reference) = (folders::unpacked(&name), folders::reference(&name));
        let source = dripping(folder.path(), MOST[1]);
        let found = difference_from(&reference, &name, source, &mut engine(), KvFormat::F32).largest;
        assert!(found <= MOST_DIFFERENCE, "{name}: {found:.1e}");
    }
}

#[test]
fn encoders_agree_with_transformers() {
    let each = EmbedOptions { pooling: Some(Pooling::None), normalize: false, ..EmbedOptions::default() };
    let options = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    for name in ENCODERS {
        for most in MOST {
            let (mut engine, model) = polled(&golden(&format!("embed/{name}.gguf")), most, &options);
            let texts = texts(name);
            let states = reference_states(name, &texts, engine.config(model).unwrap().embedding);
            let found = engine.embed(model, &prompts(&texts), &each).unwrap();
            assert!(difference(&found, &states) < embedding::MOST_DIFFERENCE, "{name}");
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// As in a browser: the thread that ticks is also the one that feeds, so nothing may wait for bytes.
#[test]
fn one_thread_reads_feeds_loads_and_answers() {
    let file = FileSource::open(golden("tiny/tiny-gemma3.gguf")).unwrap();
    let (source, feeder) = fed(&file);
    let mut reader = PreparedModelReader::new(source, &LoadOptions::default()).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let (mut engine, mut pending) =
        (Engine::new(&EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap(), 0);
    let prepared = loop {
        match reader.poll(&mut cx) {
            Poll::Ready(prepared) => break prepared.unwrap(),
            Poll::Pending => pending += 1,
        }
        let before = count.0.load(Ordering::Relaxed);
        feed(&feeder, &file);
        assert!(count.0.load(Ordering::Relaxed) > before, "bytes have come, and the reader is not woken");
    };
    assert!(pending > 0);
    assert!(matches!(reader.poll(&mut cx), Poll::Ready(Err(_))), "it has been read");
    let model = engine.load_prepared(prepared).unwrap();
    let reference = golden_json("tiny/tiny-gemma3.json");
    let session = told(&mut engine, model, &ids(&reference["tokens"]));
    engine.generate(session, &asks(8)).unwrap();
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        feed(&feeder, &file);
    }
    engine.progress(model).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens.len(), 8);
    tiny_agrees_on("tiny-gemma3", &mut engine, model);
    engine.unload(model);
    assert!(feeder.is_unread());
}

#[test]
fn a_header_that_cannot_be_fed_is_an_error() {
    let file = FileSource::open(golden("tiny/tiny-llama.gguf")).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let begin = || {
        let (source, feeder) = fed(&file);
        (PreparedModelReader::new(source, &LoadOptions::default()).unwrap(), feeder)
    };
    // What may pass is tried again.
    let (mut reader, feeder) = begin();
    assert!(reader.poll(&mut cx).is_pending());
    feeder.fail(feeder.wanted().unwrap().start, "the network is away", true);
    assert!(reader.poll(&mut cx).is_pending());
    feed(&feeder, &file);
    assert!(matches!(reader.poll(&mut cx), Poll::Ready(Ok(_))));
    // What may not is told.
    let (mut reader, feeder) = begin();
    assert!(reader.poll(&mut cx).is_pending());
    feeder.fail(feeder.wanted().unwrap().start, "403 Forbidden", false);
    let Poll::Ready(Err(Error::Model(error))) = reader.poll(&mut cx) else { panic!("no error") };
    assert!(error.to_string().contains("403 Forbidden"), "{error}");
    // A feeder that is gone leaves nobody waiting.
    let (mut reader, feeder) = begin();
    assert!(reader.poll(&mut cx).is_pending());
    drop(feeder);
    let Poll::Ready(Err(Error::Model(error))) = reader.poll(&mut cx) else { panic!("no error") };
    assert!(error.to_string().contains("tiny-llama.gguf"), "{error}");
}

#[test]
fn weights_that_could_not_be_fed_are_asked_for_again() {
    let file = FileSource::open(golden("tiny/tiny-llama.gguf")).unwrap();
    let (source, feeder) = fed(&file);
    let mut engine = engine();
    let prepared = prepared(source, &LoadOptions::default(), || feed(&feeder, &file));
    let model = engine.load_prepared(prepared).unwrap();
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &asks(4)).unwrap();
    let failing = |engine: &mut Engine, transient| loop {
        engine.tick();
        if let Some(range) = feeder.wanted() {
            feeder.fail(range.start, "no network", transient);
            return;
        }
    };
    failing(&mut engine, true);
    failing(&mut engine, false);
    assert_eq!(engine.wait(session).unwrap_err().to_string().matches("no network").count(), 1);
    assert!(matches!(engine.progress(model), Err(Error::Load(_))));
    assert_eq!(engine.phase(session).unwrap(), weft::Phase::Finished(FinishReason::ModelFailed));
    stages::load::retry_load(engine.world_mut(), model.0).unwrap();
    while !engine.progress(model).unwrap().is_complete() {
        engine.tick();
        feed(&feeder, &file);
    }
    tiny_agrees_on("tiny-llama", &mut engine, model);
}

/// Several parts, of which some are polled and some are not.
#[test]
fn polled_and_read_sources_give_the_same_model() {
    let path = golden("tiny/tiny-llama.gguf");
    let mut engine = engine();
    let read = engine.load(path.as_path(), &LoadOptions::default()).unwrap();
    let ModelSource::Open(open) = dripping(path.as_path(), 77) else { panic!("not open") };
    assert!(open.sources.iter().all(|source| source.is_polled()));
    let polled = load(&mut engine, ModelSource::Open(open), &LoadOptions::default());
    engine.wait_loaded(read).unwrap();
    let tokens: Vec<u32> = (1..40).collect();
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let found = [read, polled].map(|model| logits(&mut engine, model, &tokens, &positions, 0));
    assert!(found[0] == found[1]);
}

/// A source that does what none may, once the model's header has been read.
struct Broken {
    file: FileSource,
    header: AtomicBool,
    panics: bool,
}

impl Source for Broken {
    fn name(&self) -> &str {
        "broken.gguf"
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        if self.header.load(Ordering::Relaxed) {
            return self.file.poll_read(cx, offset, buffer);
        }
        assert!(!self.panics, "a source that panics");
        Poll::Ready(Ok(0))
    }

    fn is_polled(&self) -> bool {
        true
    }
}

#[test]
fn a_source_that_breaks_its_contract_fails_its_load_alone() {
    for panics in [false, true] {
        let (mut engine, other, tokens) = tiny(&EngineOptions::default());
        let wanted = greedy(&mut engine, other, &tokens, 8);
        let file = FileSource::open(golden("tiny/tiny-llama.gguf")).unwrap();
        let broken = Arc::new(Broken { file, header: AtomicBool::new(true), panics });
        let source = ModelSource::Parts(vec![Arc::clone(&broken) as Arc<dyn Source>]);
        let model = engine.load_prepared(prepared(source, &LoadOptions::default(), || {})).unwrap();
        broken.header.store(false, Ordering::Relaxed);
        let error = engine.wait_loaded(model).unwrap_err();
        assert!(error.to_string().contains("broken.gguf"), "{error}");
        assert_eq!(greedy(&mut engine, other, &tokens, 8), wanted, "the engine goes on");
    }
}
