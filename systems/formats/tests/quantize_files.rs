//! Quantized model files: each tensor's format, compared with llama.cpp's quantizer, and its contents.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use crate::gguf_support::{File, array, entry, entry_string, entry_u32, golden_bytes, memory};
use flate2::read::GzDecoder;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use weft_components::TensorFormat;
use weft_formats::Mix;
use weft_formats::gguf::{Gguf, TensorInfo, Value};
use weft_formats::quantize::{
    EncodeError, Quantize, QuantizeError, QuantizeOptions, quantize_rows, quantized_formats,
};
use weft_formats::synth::{Synth, SynthExperts, SynthShape};
use weft_platform::storage::Source;

/// Makes a synthetic model in F16.
fn synth(architecture: &str, shape: &SynthShape) -> Vec<Arc<dyn Source>> {
    let plan = Synth::new("in.gguf", architecture, shape, Synth::format("F16").unwrap(), 0).unwrap();
    let bytes = plan.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap();
    vec![memory("in.gguf", bytes)]
}

/// Quantizes a file.
fn quantize(sources: &[Arc<dyn Source>], options: &QuantizeOptions) -> Result<Vec<u8>, QuantizeError> {
    let plan = Quantize::new("out.gguf", sources, options)?;
    let bytes = plan.write(Vec::new(), 2, |_| ControlFlow::Continue(()))?;
    assert_eq!(bytes.len() as u64, plan.bytes());
    Ok(bytes)
}

fn values(sources: &[Arc<dyn Source>], tensor: &TensorInfo) -> Vec<f32> {
    let mut values = vec![0.0; tensor.elements() as usize];
    let bytes = sources[tensor.source].read(tensor.range.clone()).unwrap();
    assert!(tensor.format.dequantize(&bytes, &mut values));
    values
}

/// Makes the model of a golden row: see `mixes.py`.
fn golden_model(row: &Json) -> Vec<Arc<dyn Source>> {
    let number = |index: usize| row[index].as_u64().unwrap() as usize;
    let experts = Some(number(7)).filter(|count| *count > 0);
    let experts = experts.map(|count| SynthExperts { count, feed_forward: number(3), ..Default::default() });
    let shape = SynthShape {
        layers: number(1),
        embedding: number(2),
        feed_forward: number(3),
        heads: number(4),
        kv_heads: number(5),
        tied: row[6].as_bool().unwrap(),
        vocabulary: 272,
        experts,
        ..SynthShape::default()
    };
    synth(row[0].as_str().unwrap(), &shape)
}

#[test]
fn tensors_take_the_formats_that_llama_cpp_gives_them() {
    let golden = golden_bytes("quantize/mixes.json.gz");
    let golden: Json = serde_json::from_reader(GzDecoder::new(golden.as_slice())).unwrap();
    let mut compared = 0;
    for (model, golden) in golden.as_object().unwrap() {
        let sources = golden_model(&golden["model"]);
        for (name, golden) in golden["types"].as_object().unwrap() {
            let (mix, pure) = name.strip_suffix(" pure").map_or((name.as_str(), false), |mix| (mix, true));
            let options = QuantizeOptions { pure, ..QuantizeOptions::new(mix).unwrap() };
            let plan = Quantize::new("out.gguf", &sources, &options).unwrap();
            let mut wanted = BTreeMap::new();
            for (format, names) in golden.as_object().unwrap().iter().filter(|(key, _)| *key != "base") {
                wanted.extend(names.as_str().unwrap().split(' ').map(|name| (name, format.as_str())));
            }
            for tensor in plan.header().tensors() {
                let wanted = wanted.remove(tensor.name.as_str()).or(golden["base"].as_str());
                assert_eq!(Some(tensor.format.name()), wanted, "{model} {name} {}", tensor.name);
                compared += 1;
            }
            assert!(wanted.is_empty(), "{model} {name}: {wanted:?}");
        }
        let types = golden["types"].as_object().unwrap();
        assert!(Mix::quantizer_names().all(|name| types.contains_key(name)), "{model}");
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn a_file_holds_what_its_encoders_make_of_the_exact_values() {
    // Rows of odd lengths, tensors of several bands, and one that is copied.
    let shape = SynthShape { layers: 1, vocabulary: 9000, tied: false, ..SynthShape::default() };
    let sources = synth("llama", &shape);
    let read = Gguf::read(&sources).unwrap();
    for name in ["Q4_K_M", "IQ4_NL", "F32"] {
        let options = QuantizeOptions::new(name).unwrap();
        let made = [memory("out.gguf", quantize(&sources, &options).unwrap())];
        let gguf = Gguf::read(&made).unwrap();
        assert_eq!(gguf.metadata.u32("general.file_type").unwrap(), options.mix.file_type().unwrap());
        assert_eq!(gguf.metadata.u32("general.quantization_version").unwrap(), 2);
        for (key, value) in read.metadata.iter() {
            assert_eq!(gguf.metadata.get(key), Some(value), "{key}");
        }
        assert_eq!(gguf.metadata.len(), read.metadata.len() + 2);
        for (from, to) in read.tensors.iter().zip(&gguf.tensors) {
            assert_eq!((&from.name, &from.shape), (&to.name, &to.shape));
            let mut blocks = Vec::new();
            let exact = values(&sources, from);
            quantize_rows(weft_platform::Cpu::serial(), to.format, &exact, exact.len(), &mut blocks).unwrap();
            assert!(*made[0].read(to.range.clone()).unwrap() == blocks, "{name} {}", to.name);
        }
    }
}

#[test]
fn every_format_is_read_and_what_is_there_already_is_kept() {
    for from in quantized_formats() {
        let mix = Mix::uniform(from);
        let plan = Synth::new("in.gguf", "llama", &SynthShape::default(), mix, 3).unwrap();
        let bytes = plan.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap();
        let sources = [memory("in.gguf", bytes)];
        let read = Gguf::read(&sources).unwrap();
        let options = QuantizeOptions { mix, pure: true, ..QuantizeOptions::new("F32").unwrap() };
        let same = Quantize::new("out.gguf", &sources, &options).unwrap();
        assert_eq!((same.requantized(), same.formats().len()), (0, if from.name() == "F32" { 1 } else { 2 }));
        let floats = QuantizeOptions::new("F32").unwrap();
        let plan = Quantize::new("out.gguf", &sources, &floats).unwrap();
        assert_eq!(plan.requantized(), 0, "{from}");
        let eight_bits = QuantizeOptions { pure: true, ..QuantizeOptions::new("Q8_0").unwrap() };
        let again = Quantize::new("out.gguf", &sources, &eight_bits).unwrap().requantized();
        // Seven matrices for each layer, and the embedding.
        let matrices = if from.block() > 1 && from.name() != "Q8_0" { 2 * 7 + 1 } else { 0 };
        assert_eq!(again, matrices, "{from}");
        let made = [memory("out.gguf", quantize(&sources, &floats).unwrap())];
        let gguf = Gguf::read(&made).unwrap();
        for (from, to) in read.tensors.iter().zip(&gguf.tensors) {
            assert_eq!(to.format.name(), "F32");
            assert!(values(&sources, from) == values(&made, to), "{}", from.name);
        }
    }
}

#[test]
fn overrides_and_aliases() {
    let format = |name| TensorFormat::from_name(name).unwrap();
    let of = |tied: bool, options: &QuantizeOptions, tensor: &str| {
        let sources = synth("llama", &SynthShape { layers: 1, tied, ..SynthShape::default() });
        let plan = Quantize::new("out.gguf", &sources, options).unwrap();
        plan.header().tensors().iter().find(|found| found.name == tensor).map(|tensor| tensor.format.name())
    };
    let plain = QuantizeOptions::new("q4_k").unwrap();
    assert_eq!(plain.mix.name(), "Q4_K_M");
    let options = QuantizeOptions { output: Some(format("Q8_0")), embedding: Some(format("Q5_K")), ..plain };
    assert_eq!(of(false, &options, "output.weight"), Some("Q8_0"));
    assert_eq!(of(false, &options, "token_embd.weight"), Some("Q5_K"));
    assert_eq!(of(true, &options, "token_embd.weight"), Some("Q5_K"));
    let head = QuantizeOptions { output: Some(format("Q8_0")), ..plain };
    assert_eq!(of(true, &head, "token_embd.weight"), Some("Q8_0"));
    assert_eq!(of(false, &head, "token_embd.weight"), Some("Q4_K"));
    assert_eq!(of(true, &QuantizeOptions { pure: true, ..head }, "token_embd.weight"), Some("Q4_K"));
    let error = QuantizeOptions::new("q9").unwrap_err().to_string();
    assert!(Mix::quantizer_names().all(|name| error.contains(name)), "{error}");
}

/// Makes a file with only these metadata, tensor entries and data.
fn file(entries: &[Vec<u8>], tensors: &[Vec<u8>], data: &[u8]) -> Vec<Arc<dyn Source>> {
    let file =
        File { entries: entries.into(), tensors: tensors.into(), data: data.into(), ..File::default() };
    vec![memory("in.gguf", file.bytes())]
}

#[test]
fn a_split_model_becomes_one_file() {
    let part = |number: u32, name: &str| {
        let id = TensorFormat::from_name("F32").unwrap().ggml_type();
        let entries = [("split.no", number), ("split.count", 2), ("split.tensors.count", 2)];
        let entries = entries.map(|(key, value)| entry_u32(key, value));
        let tensor = crate::gguf_support::tensor(name, &[32, 2], id, 0);
        let data: Vec<u8> = (0..64).flat_map(|i| (i as f32 + number as f32).to_le_bytes()).collect();
        file(&entries, &[tensor], &data)
    };
    let sources = [part(0, "blk.0.attn_q.weight"), part(1, "blk.0.attn_k.weight")].concat();
    let made = [memory("out.gguf", quantize(&sources, &QuantizeOptions::new("BF16").unwrap()).unwrap())];
    let gguf = Gguf::read(&made).unwrap();
    assert!(gguf.metadata.iter().all(|(key, _)| !key.starts_with("split.")));
    for (tensor, first) in gguf.tensors.iter().zip([0.0, 1.0]) {
        let wanted: Vec<f32> = (0..64).map(|i| i as f32 + first).collect();
        assert_eq!((tensor.format.name(), values(&made, tensor)), ("BF16", wanted));
    }
    assert_eq!(gguf.tensors.len(), 2);
}

/// Makes a file of one matrix.
fn matrix(name: &str, format: &str, shape: &[u64], data: &[u8]) -> Vec<Arc<dyn Source>> {
    let id = TensorFormat::from_name(format).unwrap().ggml_type();
    let tensor = crate::gguf_support::tensor(name, shape, id, 0);
    file(&[entry_string("general.architecture", "llama")], &[tensor], data)
}

#[test]
fn what_cannot_be_quantized_is_named() {
    let q4_0 = QuantizeOptions::new("Q4_0").unwrap();
    let mut rows = vec![0.25f32; 1 << 22];
    rows[(1 << 21) + 70] = f32::NAN;
    let data: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
    let error = quantize(&matrix("blk.0.attn_q.weight", "F32", &[64, 1 << 16], &data), &q4_0).unwrap_err();
    let text = error.to_string();
    let QuantizeError::Encode { file, tensor, source } = error else { panic!("{text}") };
    assert_eq!((file.as_str(), tensor.as_str()), ("in.gguf", "blk.0.attn_q.weight"));
    assert!(matches!(source, EncodeError::NotFinite { index, .. } if index == (1 << 21) + 70), "{text}");

    let integers = matrix("blk.0.attn_q.weight", "I32", &[32, 2], &[0; 256]);
    let error = quantize(&integers, &q4_0).unwrap_err();
    assert!(matches!(&error, QuantizeError::UnreadableTensor { format: "I32", .. }), "{error}");
    // Tensors that are not weight matrices are copied.
    for (name, shape) in
        [("tables.weight", [64, 1]), ("blk.0.ffn_gate_tid2eid.weight", [32, 2]), ("ids", [32, 2])]
    {
        let bytes = quantize(&matrix(name, "I32", &shape, &[5; 256]), &q4_0).unwrap();
        assert_eq!(bytes[bytes.len() - 256..], [5; 256], "{name}");
    }
    let sources = matrix("blk.0.attn_q.weight", "F32", &[32, 4], &[0; 512]);
    let wide = QuantizeOptions { embedding: TensorFormat::from_name("Q4_K"), ..q4_0 };
    assert!(quantize(&sources, &wide).is_ok());
    let sources = matrix("token_embd.weight", "F32", &[32, 4], &[0; 512]);
    assert!(matches!(quantize(&sources, &wide), Err(QuantizeError::Write(_))));
    let plan = Quantize::new("out.gguf", &sources, &q4_0).unwrap();
    let stopped = plan.write(Vec::new(), 1, |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(QuantizeError::Stopped { .. })));
}

#[test]
fn metadata_are_kept_but_for_what_is_no_longer_true() {
    let metadata = [
        entry_string("general.architecture", "llama"),
        entry_u32("general.file_type", 0),
        entry_u32("split.count", 0),
        entry_u32("llama.block_count", 1),
        entry(
            "llama.attention.head_count",
            9,
            &array(4, 2, &[8u32.to_le_bytes(), 4u32.to_le_bytes()].concat()),
        ),
    ];
    let sources = file(&metadata, &[], &[]);
    let made = [memory("out.gguf", quantize(&sources, &QuantizeOptions::new("Q6_K").unwrap()).unwrap())];
    let gguf = Gguf::read(&made).unwrap();
    let keys: Vec<_> = gguf.metadata.iter().map(|(key, _)| key).collect();
    let wanted = [
        "general.architecture",
        "llama.block_count",
        "llama.attention.head_count",
        "general.file_type",
        "general.quantization_version",
    ];
    assert_eq!(keys, wanted);
    assert_eq!(gguf.metadata.get("general.file_type"), Some(&Value::U32(18)));

    let tokens = array(8, 1, &[&1u64.to_le_bytes()[..], &[0xff]].concat());
    let metadata =
        [entry_string("general.architecture", "llama"), entry("tokenizer.ggml.tokens", 9, &tokens)];
    let error = quantize(&file(&metadata, &[], &[]), &QuantizeOptions::new("F16").unwrap());
    assert!(matches!(error, Err(QuantizeError::NotUtf8 { key, .. }) if key == "tokenizer.ggml.tokens"));
}
