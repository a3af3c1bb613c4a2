//! Fuzzes snapshots of sessions. What is read is restored on a model and goes on for some tokens.
//!
//! The checksum would reject nearly every input, so the bytes are the sections and the lengths, and the checksum is
//! computed here. Run from the repository root: `cargo +nightly fuzz run snapshot`. Seeds: none are needed.
#![no_main]

mod common;

use std::cell::RefCell;
use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use weft::{Engine, ModelId, Snapshot};

thread_local! {
    static ENGINE: RefCell<(Engine, ModelId)> = RefCell::new(common::tiny());
}

/// A snapshot with these sections, or with what remains of the input after the lengths.
fn snapshot(engine: &mut Engine, model: ModelId, input: &[u8]) -> Vec<u8> {
    let session = engine.open_session(model, &weft::SessionOptions::default()).expect("a session");
    engine.append(session, weft::Prompt::Tokens(vec![1, 2, 3, 4, 5])).expect("a prompt");
    let mut bytes = engine.snapshot(session, false).expect("a snapshot");
    engine.close(session);
    common::change(&mut bytes, input, usize::MAX);
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
