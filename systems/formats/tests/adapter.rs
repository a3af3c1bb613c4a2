//! Adapter files that are invalid, damaged or for another model. Each gives an error that names the problem, and none
//! panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test should stop where it failed"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use weft_components::TensorFormat;
use weft_formats::ModelFile;
use weft_formats::adapter::{AdapterBase, AdapterError, AdapterFile, AdapterFiles};
use weft_formats::gguf::{GgufHeader, GgufWriter, Metadata, Value};
use weft_platform::storage::{MemorySource, Source};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden").join(name)
}

fn memory(name: &str, bytes: &[u8]) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(name, bytes.to_vec()))
}

/// Reads a model of `assets/golden/hf`.
fn model(name: &str) -> ModelFile {
    let file = std::fs::read(golden(&format!("hf/{name}.gguf"))).unwrap();
    ModelFile::read(vec![memory(name, &file)]).unwrap()
}

fn read(model: &ModelFile, files: &AdapterFiles) -> Result<AdapterFile, AdapterError> {
    AdapterFile::read(files, &AdapterBase { config: &model.config, shards: &model.shards })
}

fn gguf(bytes: &[u8]) -> AdapterFiles {
    AdapterFiles::Gguf(vec![memory("adapter.gguf", bytes)])
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// Returns the metadata of an adapter for Llama with the entry `key` replaced by `value`, or removed if `value` is
/// `None`.
fn metadata(key: &str, value: Option<Value>) -> Vec<(String, Value)> {
    let mut entries: Vec<(String, Value)> = [
        ("general.architecture", text("llama")),
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", Value::F32(8.0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    entries.retain(|(found, _)| found != key);
    entries.extend(value.map(|value| (key.to_owned(), value)));
    entries
}

/// Makes an adapter of zero-filled tensors, given as names and shapes, innermost first.
fn adapter(entries: Vec<(String, Value)>, tensors: &[(&str, &[u64])]) -> AdapterFiles {
    adapter_in("F32", entries, tensors)
}

fn adapter_in(format: &str, entries: Vec<(String, Value)>, tensors: &[(&str, &[u64])]) -> AdapterFiles {
    let mut header = GgufHeader::new(&Metadata::new("adapter.gguf", entries).unwrap()).unwrap();
    let format = TensorFormat::from_name(format).unwrap();
    for (name, shape) in tensors {
        header.tensor(name, format, shape).unwrap();
    }
    let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
    header.tensors().iter().for_each(|tensor| writer.data(&vec![0; tensor.bytes as usize]).unwrap());
    gguf(&writer.finish().unwrap())
}

fn plain() -> Vec<(String, Value)> {
    metadata("", None)
}

/// A pair for the query projection of a layer of `llama.gguf`.
const PAIR: [(&str, &[u64]); 2] =
    [("blk.0.attn_q.weight.lora_a", &[64, 4]), ("blk.0.attn_q.weight.lora_b", &[4, 64])];

#[test]
fn what_is_no_adapter_for_the_model_is_named() {
    let model = model("llama");
    let refused = |files: &AdapterFiles| read(&model, files).err().expect("an invalid file was read");
    assert!(read(&model, &adapter(plain(), &PAIR)).is_ok());
    for (key, value) in [("general.type", Some(text("model"))), ("adapter.type", None)] {
        let error = refused(&adapter(metadata(key, value), &PAIR));
        assert!(matches!(&error, AdapterError::NotAnAdapter { key: found, .. } if *found == key), "{error}");
    }
    let error = refused(&adapter(metadata("general.architecture", Some(text("qwen2"))), &PAIR));
    assert!(matches!(&error, AdapterError::OtherArchitecture { found, .. } if found == "qwen2"), "{error}");
    let tokens = Value::Array(weft_formats::gguf::Array::U32(vec![1, 2]));
    let error = refused(&adapter(metadata("adapter.alora.invocation_tokens", Some(tokens)), &PAIR));
    assert!(
        matches!(&error, AdapterError::UnsupportedField { field, .. } if field == "adapter.alora.invocation_tokens"),
        "{error}"
    );
    for alpha in [Value::F32(f32::NAN), Value::F32(f32::INFINITY)] {
        let error = refused(&adapter(metadata("adapter.lora.alpha", Some(alpha)), &PAIR));
        assert!(matches!(&error, AdapterError::BadField { .. }), "{error}");
    }
    assert!(matches!(refused(&adapter(metadata("adapter.lora.alpha", None), &PAIR)), AdapterError::Gguf(_)));
    assert!(matches!(refused(&adapter(plain(), &[])), AdapterError::Empty { .. }));
    for (name, error) in ["phi3", "gemma3"]
        .map(|name| (name, refused(&AdapterFiles::open(&golden("lora/qwen2-some.gguf")).unwrap())))
    {
        assert!(matches!(&error, AdapterError::OtherArchitecture { .. }), "{name}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named_with_both_shapes() {
    let model = model("llama");
    let refused =
        |tensors: &[(&str, &[u64])]| read(&model, &adapter(plain(), tensors)).err().expect("it was read");
    let (a, b) = ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b");
    for (shapes, name, shapes_found) in [
        ([&[32, 4][..], &[4, 64]], a, [4, 32]),
        ([&[64, 4], &[4, 32]], b, [32, 4]),
        ([&[64, 4], &[3, 64]], b, [64, 3]),
        ([&[4, 64], &[64, 4]], a, [64, 4]),
    ] {
        let error = refused(&[(a, shapes[0]), (b, shapes[1])]);
        assert!(
            matches!(&error, AdapterError::Shape { tensor, found, .. } if tensor == name && *found == shapes_found),
            "{error}"
        );
    }
    let error = refused(&[(a, &[64, 513]), (b, &[513, 64])]);
    assert!(matches!(&error, AdapterError::Rank { rank: 513, .. }), "{error}");
    let error = refused(&[(a, &[64, 4, 2]), (b, &[4, 64])]);
    assert!(matches!(&error, AdapterError::UnknownTensor { .. }), "{error}");
    let error = refused(&[PAIR[0]]);
    assert!(matches!(&error, AdapterError::MissingHalf { tensor, .. } if tensor == b), "{error}");
    let error = refused(&[PAIR[1]]);
    assert!(matches!(&error, AdapterError::MissingHalf { tensor, .. } if tensor == a), "{error}");
    let error = refused(&[PAIR[0], PAIR[1], ("blk.0.attn_norm.weight", &[64])]);
    assert!(
        matches!(&error, AdapterError::UnknownTensor { tensor, .. } if tensor == "blk.0.attn_norm.weight"),
        "{error}"
    );
    for name in [
        "blk.2.attn_q.weight",
        "blk.0.ffn_gate_exps.weight",
        "blk.0.attn_z.weight",
        "blk.x.attn_q.weight",
        "other",
    ] {
        let names = [".lora_a", ".lora_b"].map(|half| format!("{name}{half}"));
        let error = refused(&[(&names[0], &[64, 4]), (&names[1], &[4, 64])]);
        assert!(matches!(&error, AdapterError::NoSuchTensor { tensor, .. } if tensor == name), "{error}");
    }
    for name in ["token_embd.weight", "blk.0.attn_norm.weight", "output_norm.weight"] {
        let names = [".lora_a", ".lora_b"].map(|half| format!("{name}{half}"));
        let error = refused(&[(&names[0], &[64, 4]), (&names[1], &[4, 64])]);
        assert!(
            matches!(&error, AdapterError::UnsupportedTensor { tensor, .. } if tensor == name),
            "{error}"
        );
    }
    // A pair for fused queries, keys and values overlaps with one for the queries.
    let fused: [(&str, &[u64]); 2] =
        [("blk.0.attn_qkv.weight.lora_a", &[64, 4]), ("blk.0.attn_qkv.weight.lora_b", &[4, 128])];
    assert!(read(&model, &adapter(plain(), &fused)).is_ok());
    let error = refused(&[PAIR[0], PAIR[1], fused[0], fused[1]]);
    assert!(matches!(&error, AdapterError::Twice { .. }), "{error}");
}

#[test]
fn experts_and_scaled_matrices_are_refused_by_name() {
    let mixtral = model("mixtral");
    let names = ["blk.0.ffn_gate_exps.weight.lora_a", "blk.0.ffn_gate_exps.weight.lora_b"];
    let files = adapter(plain(), &[(names[0], &[32, 4]), (names[1], &[4, 64])]);
    let error = read(&mixtral, &files).err().unwrap();
    assert!(matches!(&error, AdapterError::UnsupportedTensor { .. }), "{error}");
}

#[test]
fn quantized_pairs_are_decoded() {
    let model = model("llama");
    let pair: [(&str, &[u64]); 2] =
        [("blk.0.attn_q.weight.lora_a", &[64, 32]), ("blk.0.attn_q.weight.lora_b", &[32, 64])];
    for format in ["Q8_0", "Q4_0", "BF16", "F16"] {
        let file = read(&model, &adapter_in(format, plain(), &pair)).unwrap();
        assert_eq!(file.adapter.pairs[0].rank, 32, "{format}");
        assert_eq!(file.adapter.pairs[0].scale, 0.25, "{format}");
    }
}

/// Renames the tensors of a safetensors file and adds one.
fn renamed(file: &[u8], name: impl Fn(&str) -> String, more: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&file[8..8 + length]).unwrap();
    let data = &file[8 + length..];
    let mut header: serde_json::Map<_, _> =
        header.into_iter().map(|(key, value)| (name(&key), value)).collect();
    let end = data.len();
    header.insert(
        more.to_owned(),
        serde_json::json!({ "dtype": "F32", "shape": [1, 1], "data_offsets": [end, end + 4] }),
    );
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    [header.as_bytes(), data, &[0; 4]].iter().for_each(|part| file.extend_from_slice(part));
    file
}

#[test]
fn an_adapter_of_a_model_with_vision_is_one_of_its_text() {
    let llama = model("llama");
    let config = std::fs::read(golden("lora/llama-qv/adapter_config.json")).unwrap();
    let weights = std::fs::read(golden("lora/llama-qv/adapter_model.safetensors")).unwrap();
    let of = |weights: &[u8]| {
        let files = AdapterFiles::Peft {
            config: memory("adapter_config.json", &config),
            weights: memory("adapter_model.safetensors", weights),
        };
        read(&llama, &files)
    };
    let places = |file: AdapterFile| {
        let of = |pair: &weft_components::LowRank| (pair.layer, pair.site, pair.first, pair.scale.to_bits());
        file.adapter.pairs.iter().map(of).collect::<Vec<_>>()
    };
    let plain = places(of(&weights).unwrap());
    let (inner, vision) =
        ("base_model.model.model.layers.", "vision_tower.encoder.layers.0.q_proj.lora_A.weight");
    for prefix in [
        "base_model.model.model.language_model.layers.",
        "base_model.model.language_model.model.layers.",
        "base_model.model.language_model.layers.",
        "base_model.model.layers.",
    ] {
        let file =
            renamed(&weights, |name| name.replace(inner, prefix), &format!("base_model.model.{vision}"));
        assert_eq!(places(of(&file).unwrap()), plain, "{prefix}");
    }
    // All matrices belong to the vision tower, so none is left.
    let file = renamed(
        &weights,
        |name| name.replace(inner, "base_model.model.model.vision_tower.layers."),
        &format!("base_model.model.model.{vision}"),
    );
    assert!(matches!(of(&file).err().unwrap(), AdapterError::Empty { .. }));
}

/// Every prefix of a file gives an error. Changing a byte never causes a panic.
#[test]
fn damaged_files_are_errors() {
    let llama = model("llama");
    let qwen = model("qwen2");
    let whole = std::fs::read(golden("lora/qwen2-some.gguf")).unwrap();
    assert!(read(&qwen, &gguf(&whole)).is_ok());
    // The padding after the last tensor may be missing.
    let padding = 32;
    for end in 0..whole.len() - padding {
        assert!(read(&qwen, &gguf(&whole[..end])).is_err(), "{end} bytes");
    }
    let mut damaged = whole.clone();
    for at in 0..whole.len().min(2048) {
        for flip in [0x01, 0x80, 0xff] {
            damaged[at] ^= flip;
            let _ = read(&qwen, &gguf(&damaged));
            damaged[at] = whole[at];
        }
    }
    let config = std::fs::read(golden("lora/llama-qv/adapter_config.json")).unwrap();
    let weights = std::fs::read(golden("lora/llama-qv/adapter_model.safetensors")).unwrap();
    let peft = |config: &[u8], weights: &[u8]| AdapterFiles::Peft {
        config: memory("adapter_config.json", config),
        weights: memory("adapter_model.safetensors", weights),
    };
    assert!(read(&llama, &peft(&config, &weights)).is_ok());
    for end in (0..weights.len()).step_by(7) {
        assert!(read(&llama, &peft(&config, &weights[..end])).is_err(), "{end} bytes of weights");
    }
    for end in 0..config.len() - 2 {
        let error =
            read(&llama, &peft(&config[..end], &weights)).err().expect("a truncated configuration was read");
        assert!(matches!(&error, AdapterError::BadConfig { .. }), "{error}");
    }
    let mut damaged = weights.clone();
    for (at, byte) in weights.iter().enumerate().take(1024) {
        damaged[at] ^= 0x11;
        let _ = read(&llama, &peft(&config, &damaged));
        damaged[at] = *byte;
    }
    let mut damaged = config.clone();
    for (at, byte) in config.iter().enumerate() {
        damaged[at] ^= 0x11;
        let _ = read(&llama, &peft(&damaged, &weights));
        damaged[at] = *byte;
    }
    let folder = AdapterFiles::open(&golden("hf")).err().unwrap();
    assert!(matches!(&folder, AdapterError::NoFile { file: "adapter_config.json", .. }), "{folder}");
}
