//! Fuzzes files of the prefix cache on disk. What is read becomes cached context, which a session goes on from.
//!
//! The checksum would reject nearly every input, so the input changes bytes of a file that was saved, and the checksum is
//! computed here. Run from the repository root: `cargo +nightly fuzz run prefix`. Seeds: none are needed.
#![no_main]

mod common;

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use weft::{Engine, GenerateOptions, ModelId, PAGE, Prompt, SessionOptions};

/// An engine with a folder that has one file.
struct Cache {
    engine: Engine,
    model: ModelId,
    folder: PathBuf,
    file: PathBuf,
    whole: Vec<u8>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(cache());
}

fn cache() -> Cache {
    let (mut engine, model) = common::tiny();
    say(&mut engine, model);
    let folder = std::env::temp_dir().join(format!("weft-fuzz-prefix-{}", std::process::id()));
    engine.save_prefixes(model, &folder, None).expect("a folder");
    let file = fs::read_dir(&folder).expect("a folder").next().expect("a file").expect("a file").path();
    let whole = fs::read(&file).expect("a file");
    Cache { engine, model, folder, file, whole }
}

/// Computes, or goes on from, a context of a little more than a page.
fn say(engine: &mut Engine, model: ModelId) {
    let session = engine.open_session(model, &SessionOptions::default()).expect("a session");
    let tokens = (0..PAGE as u32 + 3).collect();
    engine.append(session, Prompt::Tokens(tokens)).expect("a prompt");
    let options = GenerateOptions { max_tokens: Some(2), ..GenerateOptions::default() };
    engine.generate(session, &options).expect("a request");
    engine.wait(session).expect("an answer");
    engine.close(session);
}

fuzz_target!(|input: &[u8]| {
    CACHE.with_borrow_mut(|Cache { engine, model, folder, file, whole }| {
        let mut bytes = whole.clone();
        // Mostly bytes of the header.
        common::change(&mut bytes, input, 1024);
        fs::write(&*file, &bytes).expect("a file");
        engine.clear_prefix_cache(*model).expect("a model");
        let loaded = engine.load_prefixes(*model, &*folder).expect("a folder");
        drop(black_box(loaded));
        say(engine, *model);
    });
});
