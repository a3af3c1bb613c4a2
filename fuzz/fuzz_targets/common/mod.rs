//! What fuzz targets of files share that the engine itself has written.

use sha2::{Digest, Sha256};
use weft::{Engine, EngineOptions, LoadOptions, ModelId};

/// An engine with the smallest model.
pub fn tiny() -> (Engine, ModelId) {
    let mut engine =
        Engine::new(&EngineOptions { threads: 1, ..EngineOptions::default() }).expect("an engine");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");
    let load = LoadOptions { kv_tokens: Some(256), ..LoadOptions::default() };
    let model = engine.load(file, &load).expect("a model");
    engine.wait_loaded(model).expect("a loaded model");
    (engine, model)
}

/// Each triple of bytes of `input` overwrites one of the `most` bytes behind the version of a file of sections. The checksum is
/// made right again.
pub fn change(bytes: &mut [u8], input: &[u8], most: usize) {
    for change in input.chunks_exact(3) {
        let at = 12 + (usize::from(change[0]) << 8 | usize::from(change[1])) % (bytes.len() - 12).min(most);
        bytes[at] = change[2];
    }
    let mut hash = Sha256::new();
    hash.update(&bytes[..36]);
    hash.update(&bytes[68..]);
    bytes[36..68].copy_from_slice(&hash.finalize());
}
