//! Fuzzes files of the prefix cache on disk. What is read becomes cached context, which a session goes on from.
//!
//! The checksum would reject nearly every input, so the input changes bytes of a file that was saved, and the checksum is
//! computed here. Run from the repository root: `cargo +nightly fuzz run prefix`. Seeds: none are needed.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, PAGE, Prompt, SessionOptions};

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
    let mut engine =
        Engine::new(&EngineOptions { threads: 1, ..EngineOptions::default() }).expect("an engine");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");
    let load = LoadOptions { kv_tokens: Some(256), ..LoadOptions::default() };
    let model = engine.load(file, &load).expect("a model");
    engine.wait_loaded(model).expect("a loaded model");
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
        // Each triple of bytes of the input overwrites one byte behind the version, mostly of the header.
        for change in input.chunks_exact(3) {
            let at =
                12 + (usize::from(change[0]) << 8 | usize::from(change[1])) % (bytes.len() - 12).min(1024);
            bytes[at] = change[2];
        }
        let mut hash = Sha256::new();
        hash.update(&bytes[..36]);
        hash.update(&bytes[68..]);
        bytes[36..68].copy_from_slice(&hash.finalize());
        fs::write(&*file, &bytes).expect("a file");
        engine.clear_prefix_cache(*model).expect("a model");
        let loaded = engine.load_prefixes(*model, &*folder).expect("a folder");
        drop(black_box(loaded));
        say(engine, *model);
    });
});
