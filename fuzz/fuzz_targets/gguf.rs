//! Fuzzes GGUF headers: one file, or several parts if the input contains the separator.
//!
//! Run from the repository root: `cargo +nightly fuzz run gguf`. Seeds: the files of `assets/golden/gguf`, copied to
//! `fuzz/corpus/gguf`.
#![no_main]

use std::hint::black_box;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weft_formats::gguf::Gguf;
use weft_platform::storage::{MemorySource, Source};

/// Separates the parts of a split model.
const SEPARATOR: &[u8] = b"\0--part--\0";

/// Splits `input` into parts.
fn parts(mut input: &[u8]) -> Vec<Arc<dyn Source>> {
    let mut parts: Vec<Arc<dyn Source>> = Vec::new();
    loop {
        let at = input.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let part = &input[..at.unwrap_or(input.len())];
        parts.push(Arc::new(MemorySource::new(format!("part{}", parts.len()), part.to_vec())));
        match at {
            Some(at) => input = &input[at + SEPARATOR.len()..],
            None => return parts,
        }
    }
}

/// Uses everything that the reader returns and checks its guarantees.
fn walk(gguf: &Gguf, sources: &[Arc<dyn Source>]) {
    let metadata = &gguf.metadata;
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some_and(|found| std::ptr::eq(found, value)));
        black_box(value.to_string());
        black_box((
            metadata.u32(key).ok(),
            metadata.u64(key).ok(),
            metadata.i32(key).ok(),
            metadata.f32(key).ok(),
        ));
        black_box((metadata.bool(key).ok(), metadata.str(key).ok(), metadata.strings(key).ok()));
        black_box((
            metadata.u32s(key).ok(),
            metadata.i32s(key).ok(),
            metadata.f32s(key).ok(),
            metadata.bools(key).ok(),
        ));
    }
    black_box(metadata.lossy_keys().count());
    for tensor in &gguf.tensors {
        assert!(gguf.tensor(&tensor.name).is_some_and(|found| std::ptr::eq(found, tensor)));
        let bytes = sources[tensor.source].read(tensor.range.clone()).expect("a tensor is inside its part");
        assert_eq!(bytes.len() as u64, tensor.bytes());
        let format = tensor.format;
        let blocks = tensor.elements() / format.block() as u64;
        assert_eq!(blocks * format.block() as u64, tensor.elements());
        assert_eq!(blocks * format.block_bytes() as u64, tensor.bytes());
        // A block may contain any bytes. Decoding it must not fail.
        let mut values = vec![0.0; format.block()];
        if let Some(block) = bytes.get(..format.block_bytes()) {
            assert_eq!(format.dequantize(block, &mut values), format.codec().is_some());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let sources = parts(input);
    match Gguf::read(&sources) {
        Ok(gguf) => walk(&gguf, &sources),
        Err(error) => {
            black_box(error.to_string());
        }
    }
});
