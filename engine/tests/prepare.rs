//! Models that are read on another thread while the engine ticks.

use crate::common::requests::{asks, tiny};
use crate::common::{golden, golden_json, greedy, ids, poll_by_reading, synthetic, told};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use weft::storage::{Bytes, MemorySource, Source, StorageError};
use weft::synth::SynthShape;
use weft::{Engine, EngineOptions, LoadOptions, ModelSource, PreparedModel};

/// A file whose bytes are withheld until the test releases them.
struct Held {
    file: MemorySource,
    asked: Mutex<Option<Sender<()>>>,
    go: Mutex<Option<Receiver<()>>>,
}

impl Source for Held {
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
        if let (Some(asked), Some(go)) = (self.asked.lock().unwrap().take(), self.go.lock().unwrap().take()) {
            asked.send(()).unwrap();
            go.recv().unwrap();
        }
        self.file.read(range)
    }
}

#[test]
fn others_are_told_tokens_while_a_model_is_read() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let wanted = greedy(&mut engine, model, &tokens, 24);
    let bytes = std::fs::read(golden("tiny/tiny-mistral.gguf")).unwrap();
    let ((asked, was_asked), (go, may_go)) = (channel(), channel());
    let held = Held {
        file: MemorySource::new("held", bytes),
        asked: Mutex::new(Some(asked)),
        go: Mutex::new(Some(may_go)),
    };
    let source = ModelSource::Parts(vec![Arc::new(held) as Arc<dyn Source>]);
    let reader = std::thread::spawn(move || PreparedModel::read(source, &LoadOptions::default()).unwrap());
    was_asked.recv().unwrap();
    // The file is being read, and stays so until this session has ended.
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(24)).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
    assert!(!reader.is_finished());
    go.send(()).unwrap();
    let prepared = reader.join().unwrap();
    assert_eq!(prepared.config().architecture, "llama");
    let other = engine.load_prepared(prepared).unwrap();
    let reference = golden_json("tiny/tiny-mistral.json");
    let said = ids(&reference["greedy"]);
    assert_eq!(greedy(&mut engine, other, &ids(&reference["tokens"]), said.len()), said);
}

/// Building a vocabulary of 150,000 tokens takes the time of many ticks, and delays none of them.
#[test]
fn a_large_vocabulary_is_built_beside_the_ticks() {
    let shape = SynthShape { layers: 1, vocabulary: 150_000, ..SynthShape::default() };
    let source = synthetic(&shape, "q8_0");
    let (mut engine, model, tokens) = tiny(&EngineOptions { threads: 1, ..EngineOptions::default() });
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(4000)).unwrap();
    let reader = std::thread::spawn(move || PreparedModel::read(source, &LoadOptions::default()).unwrap());
    let before = engine.output(session).unwrap().tokens.len();
    while !reader.is_finished() {
        engine.tick();
    }
    let said = engine.output(session).unwrap().tokens.len() - before;
    println!("{said} tokens while the vocabulary was built");
    assert!(said > 1, "{said} tokens");
    let other = engine.load_prepared(reader.join().unwrap()).unwrap();
    assert!(engine.tokenizer(other).unwrap().vocab_size() > 100_000);
    engine.unload(other);
}

#[test]
fn what_cannot_be_read_says_so_on_the_thread_that_reads() {
    let broken = ModelSource::memory("broken.gguf", b"GGUF and no more".to_vec());
    let error = std::thread::spawn(|| PreparedModel::read(broken, &LoadOptions::default()).err().unwrap());
    assert!(error.join().unwrap().to_string().contains("broken.gguf"));
    let _ = Engine::new(&EngineOptions::default()).unwrap();
}
