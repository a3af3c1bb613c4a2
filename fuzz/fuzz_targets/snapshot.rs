//! Fuzzes snapshots of sessions. What is read is restored on a model and goes on for some tokens.
//!
//! The checksum would reject nearly every input, so the bytes are the sections and the lengths, and the checksum is
//! computed here. Run from the repository root: `cargo +nightly fuzz run snapshot`. Seeds: none are needed.
#![no_main]

use std::cell::RefCell;
use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use weft::{Engine, EngineOptions, LoadOptions, ModelId, Snapshot};

thread_local! {
    static ENGINE: RefCell<(Engine, ModelId)> = RefCell::new(engine());
}

fn engine() -> (Engine, ModelId) {
    let mut engine =
        Engine::new(&EngineOptions { threads: 1, ..EngineOptions::default() }).expect("an engine");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");
    let load = LoadOptions { kv_tokens: Some(256), ..LoadOptions::default() };
    let model = engine.load(file, &load).expect("a model");
    engine.wait_loaded(model).expect("a loaded model");
    (engine, model)
}

/// A snapshot with these sections, or with what remains of the input after the lengths.
fn snapshot(engine: &mut Engine, model: ModelId, input: &[u8]) -> Vec<u8> {
    let session = engine.open_session(model, &weft::SessionOptions::default()).expect("a session");
    engine.append(session, weft::Prompt::Tokens(vec![1, 2, 3, 4, 5])).expect("a prompt");
    let mut bytes = engine.snapshot(session, false).expect("a snapshot");
    engine.close(session);
    // Each pair of bytes of the input overwrites one byte behind the version.
    for pair in input.chunks_exact(3) {
        let at = 12 + (usize::from(pair[0]) << 8 | usize::from(pair[1])) % (bytes.len() - 12);
        bytes[at] = pair[2];
    }
    let mut hash = Sha256::new();
    hash.update(&bytes[..36]);
    hash.update(&bytes[68..]);
    let digest = hash.finalize();
    bytes[36..68].copy_from_slice(&digest);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let _ = black_box(Snapshot::decode(input));
    ENGINE.with_borrow_mut(|(engine, model)| {
        let bytes = snapshot(engine, *model, input);
        match engine.restore(*model, &bytes) {
            Ok(session) => {
                for _ in 0..5 {
                    let _ = engine.tick();
                }
                engine.close(session);
            }
            Err(error) => drop(black_box(error.to_string())),
        }
    });
});
