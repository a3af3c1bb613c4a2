//! Reads the golden data of `assets/golden/tokenizers` (see its README).

pub(crate) mod byte_level;

use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Reads a file of the folder, decompressed if its name ends in `gz`.
pub(crate) fn golden_text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/tokenizers").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    if name.ends_with("gz") {
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text
}

/// Reads a JSON file of the folder.
pub(crate) fn golden(name: &str) -> Value {
    serde_json::from_str(&golden_text(name)).unwrap()
}
