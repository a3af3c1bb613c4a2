//! Fuzzes LoRA adapters: a GGUF file, or the two files of a PEFT folder if the input contains the separator.
//!
//! Run from the repository root: `cargo +nightly fuzz run adapter`. Seeds: the files of `assets/golden/lora`, copied to
//! `fuzz/corpus/adapter`. The two files of a folder are joined with the separator.
#![no_main]

use std::hint::black_box;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use weft_formats::ModelFile;
use weft_formats::adapter::{AdapterBase, AdapterFile, AdapterFiles};
use weft_platform::storage::{MemorySource, Source};

/// Separates a configuration from the weights.
const SEPARATOR: &[u8] = b"\0--weights--\0";

/// The model that the adapters are checked against.
static MODEL: LazyLock<ModelFile> = LazyLock::new(|| {
    let file = include_bytes!("../../assets/golden/hf/llama.gguf");
    ModelFile::read(vec![source("llama.gguf", file)]).expect("a golden model")
});

fn source(name: &str, bytes: &[u8]) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(name, bytes.to_vec()))
}

fuzz_target!(|input: &[u8]| {
    let at = input.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    let files = match at {
        Some(at) => AdapterFiles::Peft {
            config: source("adapter_config.json", &input[..at]),
            weights: source("adapter_model.safetensors", &input[at + SEPARATOR.len()..]),
        },
        None => AdapterFiles::Gguf(vec![source("adapter.gguf", input)]),
    };
    let base = AdapterBase { config: &MODEL.config, shards: &MODEL.shards };
    match AdapterFile::read(&files, &base) {
        Ok(AdapterFile { adapter, matrices }) => {
            for pair in &adapter.pairs {
                let found = matrices.pairs(pair.layer, pair.site);
                assert!(found.iter().any(|found| found.first == pair.first
                    && found.up.rows() == pair.outputs
                    && found.down.cols() == pair.inputs));
                assert!(pair.scale.is_finite());
            }
        }
        Err(error) => {
            black_box(error.to_string());
        }
    }
});
