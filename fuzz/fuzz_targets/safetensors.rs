//! Fuzzes Hugging Face folders: `config.json` and files of weights, joined with the separator.
//!
//! Run from the repository root: `cargo +nightly fuzz run safetensors`. Seeds: the folders of
//! `assets/golden/hf/folders`, unpacked and joined.
#![no_main]

use std::hint::black_box;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weft_formats::ModelFile;
use weft_formats::gguf::Gguf;
use weft_formats::hugging_face::HuggingFaceFolder;
use weft_formats::safetensors::SafetensorsHeader;
use weft_platform::storage::{MemorySource, Source};

/// Separates the files of a folder.
const SEPARATOR: &[u8] = b"\0--file--\0";

/// Splits `input` into the configuration and the files of weights.
fn files(mut input: &[u8]) -> (&[u8], Vec<Arc<dyn Source>>) {
    let mut files = Vec::new();
    while let Some(at) = input.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        files.push(&input[..at]);
        input = &input[at + SEPARATOR.len()..];
    }
    files.push(input);
    let config = files.remove(0);
    let source = |(index, bytes): (usize, &&[u8])| -> Arc<dyn Source> {
        Arc::new(MemorySource::new(format!("{index}.safetensors"), bytes.to_vec()))
    };
    (config, files.iter().enumerate().map(source).collect())
}

/// Reads a header and checks its guarantees.
fn walk_header(source: &dyn Source) {
    match SafetensorsHeader::read(source) {
        Ok(header) => {
            for tensor in &header.tensors {
                let bytes = source.read(tensor.range.clone()).expect("a tensor is inside its file");
                assert_eq!(Some(bytes.len() as u64), tensor.dtype.bytes(&tensor.shape));
                assert_eq!(header.tensor(&tensor.name), Some(tensor));
            }
        }
        Err(error) => {
            black_box(error.to_string());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let (config, weights) = files(input);
    weights.iter().for_each(|source| walk_header(source));
    let held: u64 = weights.iter().map(|source| source.len()).sum();
    match HuggingFaceFolder::from_files("folder", config, None, weights) {
        Ok(folder) => {
            let source = folder.source();
            // Vectors grow from 16 to 32 bits. Rotary factors and names come from the configuration.
            assert!(source.len() <= 4 * (held + config.len() as u64) + (1 << 20));
            let whole = source.read(0..source.len()).expect("all of it");
            assert_eq!(whole.len() as u64, source.len());
            let gguf = Gguf::read(std::slice::from_ref(&source)).expect("a folder is a GGUF");
            for tensor in &gguf.tensors {
                let bytes = source.read(tensor.range.clone()).expect("inside it");
                assert_eq!(&*bytes, &whole[tensor.range.start as usize..tensor.range.end as usize]);
            }
            if let Err(error) = ModelFile::read(folder) {
                black_box(error.to_string());
            }
        }
        Err(error) => {
            black_box(error.to_string());
        }
    }
});
