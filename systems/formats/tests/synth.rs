//! Synthetic models, read like any other file.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::slice;
use std::sync::Arc;

use weft_components::{TensorFormat, TensorRole};
use weft_formats::gguf::{Gguf, GgufWriteError};
use weft_formats::synth::{PRESETS, Synth, SynthError, SynthExperts, SynthShape};
use weft_formats::{ARCHITECTURES, Mix, ModelFile};
use weft_platform::storage::{MemorySource, Source};
use weft_text::SpecialTokens;

const FORMATS: [&str; 6] = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"];

fn plan(shape: &SynthShape, format: &str, seed: u64) -> Synth {
    Synth::new("made.gguf", "llama", shape, Synth::format(format).unwrap(), seed).unwrap()
}

fn make(plan: &Synth, threads: usize) -> Vec<u8> {
    let bytes = plan.write(Vec::new(), threads, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(bytes.len() as u64, plan.bytes());
    bytes
}

fn source(bytes: Vec<u8>) -> Arc<dyn Source> {
    Arc::new(MemorySource::new("made.gguf", bytes))
}

/// Decodes the values of a tensor.
fn values(gguf: &Gguf, source: &Arc<dyn Source>, name: &str) -> Vec<f32> {
    let tensor = gguf.tensor(name).unwrap();
    let mut values = vec![0.0; tensor.elements() as usize];
    assert!(tensor.format.dequantize(&source.read(tensor.range.clone()).unwrap(), &mut values));
    values
}

fn deviation(values: &[f32], mean: f64) -> f64 {
    let squares = values.iter().map(|value| (f64::from(*value) - mean).powi(2));
    (squares.sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn every_architecture_reads_the_numbers_that_were_asked_for() {
    let shape = SynthShape {
        layers: 3,
        key_length: Some(48),
        value_length: Some(64),
        vocabulary: 300,
        context: 777,
        rope_base: 12_345.0,
        ..SynthShape::default()
    };
    for arch in ARCHITECTURES {
        for tied in [true, false] {
            // Architectures without a head tensor always use the embedding as the head. If there is no head tensor,
            // nothing states it.
            let head = arch.after.iter().any(|pattern| pattern.roles.contains(&TensorRole::Output));
            let tied = tied || !head;
            let shape = SynthShape { tied, ..shape.clone() };
            let format = Synth::format("q4_1").unwrap();
            let plan = Synth::new("made.gguf", arch.name, &shape, format, 1).unwrap();
            let source = source(make(&plan, 2));
            let file = ModelFile::read(vec![source.clone()]).unwrap();
            let config = &file.config;
            let found = SynthShape {
                layers: config.layers,
                embedding: config.embedding,
                feed_forward: config.feed_forward,
                heads: config.heads,
                kv_heads: config.kv_heads,
                key_length: Some(config.key_length),
                value_length: Some(config.value_length),
                vocabulary: config.vocabulary,
                context: config.context,
                tied: config.tied,
                rope_base: config.ropes[0].base,
                ..shape.clone()
            };
            assert_eq!(found, shape, "{}", arch.name);
            assert_eq!((config.architecture.as_str(), config.ropes[0].dimensions), (arch.name, 48));
            assert!(file.shards.len() >= plan.tensors(), "{}", arch.name);
            let gguf = Gguf::read(&[source]).unwrap();
            let matrices = gguf.tensors.iter().filter(|tensor| tensor.shape.len() >= 2);
            let matrices = matrices.filter(|tensor| !tensor.name.contains("_inp"));
            assert!(
                matrices.clone().count() > 0 && matrices.clone().all(|tensor| tensor.format == format.base())
            );
        }
    }
}

#[test]
fn experts_and_windows_are_what_was_asked_for() {
    let experts = SynthExperts { count: 6, used: 3, feed_forward: 32, shared_feed_forward: 64 };
    let shape = SynthShape { layers: 6, experts: Some(experts), ..SynthShape::default() };
    let read = |arch: &str, shape: &SynthShape| {
        let plan = Synth::new("made.gguf", arch, shape, Synth::format("F16").unwrap(), 1).unwrap();
        ModelFile::read(vec![source(make(&plan, 1))]).unwrap()
    };
    for (arch, shared) in [("llama", 0), ("qwen2moe", 64), ("qwen3moe", 0), ("granitemoe", 64)] {
        let file = read(arch, &shape);
        let found = file.config.experts.unwrap();
        assert_eq!((found.count, found.used, found.feed_forward), (6, 3, 32), "{arch}");
        assert_eq!(found.shared_feed_forward, shared, "{arch}");
        let of = |role| file.shards.iter().filter(move |spec| spec.shard.role == role);
        assert_eq!(of(TensorRole::ExpertDown).count(), 6 * 6, "{arch}");
        assert!(of(TensorRole::ExpertUp).all(|spec| (spec.shard.rows, spec.shard.cols) == (32, 256)));
    }
    let local = |arch: &str| {
        let file = read(arch, &SynthShape { layers: 6, window: Some(8), ..SynthShape::default() });
        file.config.layer.iter().map(|layer| usize::from(layer.window == Some(8))).collect::<Vec<_>>()
    };
    assert_eq!(local("llama"), [1; 6]);
    assert_eq!(local("gemma2"), [1, 0, 1, 0, 1, 0]);
    assert_eq!(local("gemma3"), [1, 1, 1, 1, 1, 0]);
    let refused = |shape: SynthShape| {
        let made = Synth::new("made.gguf", "qwen2", &shape, Synth::format("F16").unwrap(), 1);
        assert!(matches!(made, Err(SynthError::BadNumber { .. })), "{made:?}");
    };
    refused(shape);
    refused(SynthShape { window: Some(8), ..SynthShape::default() });
}

#[test]
fn any_text_can_be_said() {
    let file = ModelFile::read(vec![source(make(&plan(&SynthShape::default(), "F16", 0), 1))]).unwrap();
    let tokenizer = file.tokenizer.unwrap();
    assert_eq!(tokenizer.vocab_size(), 512);
    let text = "Hello, the wörld 🙂\n\t\0";
    let ids = tokenizer.encode(text, SpecialTokens::Parse, true).unwrap();
    assert_eq!(ids.first().copied(), tokenizer.bos());
    // There is one merge: the space and the t.
    assert_eq!(ids.len(), 1 + text.len() - 1);
    assert_eq!(tokenizer.decode(&ids[1..], false).unwrap(), text);
    assert_eq!(tokenizer.decode(&[511], false).unwrap(), "<t511>");
    assert_eq!(tokenizer.end_of_generation(), [tokenizer.eos().unwrap()]);
}

#[test]
fn weights_have_the_deviation_of_their_inputs() {
    for format in FORMATS {
        let source = source(make(&plan(&SynthShape::default(), format, 5), 2));
        let gguf = Gguf::read(slice::from_ref(&source)).unwrap();
        // Each tensor has 131,072 weights. The tests of `weights` say how much the deviation may vary.
        for (name, inputs) in [("token_embd.weight", 256.0f64), ("blk.1.ffn_down.weight", 512.0)] {
            assert_eq!(gguf.tensor(name).unwrap().format.name(), format);
            let found = deviation(&values(&gguf, &source, name), 0.0) * inputs.sqrt();
            assert!((found - 1.0).abs() < 1e-2, "{format} {name}: {found}");
        }
        let norms = values(&gguf, &source, "blk.0.ffn_norm.weight");
        assert_eq!(gguf.tensor("blk.0.ffn_norm.weight").unwrap().format.name(), "F32");
        assert!(norms.iter().all(|value| (value - 1.0).abs() < 0.1));
        assert!(deviation(&norms, 1.0) > 0.01);
    }
}

#[test]
fn a_file_is_its_seed_and_shape_whatever_the_threads() {
    // An embedding of 40 MB needs more than one batch.
    let shape = SynthShape { layers: 1, vocabulary: 39_001, ..SynthShape::default() };
    let bytes = make(&plan(&shape, "F32", 7), 1);
    for threads in [0, 3] {
        assert!(make(&plan(&shape, "F32", 7), threads) == bytes, "{threads} threads");
    }
    let source = source(bytes);
    let gguf = Gguf::read(slice::from_ref(&source)).unwrap();
    // No sequence of bytes occurs twice, within a batch or across batches.
    let mut seen = HashSet::new();
    for tensor in &gguf.tensors {
        let data = source.read(tensor.range.clone()).unwrap();
        assert!(data.chunks(1024).all(|stretch| seen.insert(stretch.to_vec())), "{}", tensor.name);
    }
    let other = make(&plan(&SynthShape::default(), "Q8_0", 8), 2);
    let bytes = make(&plan(&SynthShape::default(), "Q8_0", 7), 2);
    let differ = bytes.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert!(bytes.len() == other.len() && differ > bytes.len() * 9 / 10, "{differ} of {}", bytes.len());
}

#[test]
fn progress_goes_up_to_the_end_and_can_stop_it() {
    let plan = plan(&SynthShape::default(), "Q4_0", 0);
    let mut told = Vec::new();
    plan.write(Vec::new(), 1, |bytes| {
        told.push(bytes);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(told.is_sorted() && told.len() == plan.tensors());
    // The progress does not count the padding after the last tensor.
    assert!(told.last().is_some_and(|last| plan.bytes() - last < 32));
    let stopped = plan.write(Vec::new(), 1, |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, SynthError::Stopped { .. }), "{stopped}");
    let mut room = [0; 100_000];
    let full = plan.write(&mut room[..], 1, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(full, SynthError::Write(GgufWriteError::Io { .. })), "{full}");
}

#[test]
fn presets_have_the_sizes_of_their_models() {
    for (name, tensors, parameters) in [("1b", 146, 1_235_814_400), ("8b", 291, 8_030_261_248)] {
        let plan = plan(&SynthShape::preset(name).unwrap(), "F16", 0);
        assert_eq!(plan.tensors(), tensors, "{name}");
        // The rest is norms in F32 and the header with its vocabulary.
        let rest = plan.bytes() - 2 * parameters;
        assert!(rest < 6 << 20, "{name}: {rest}");
    }
    let error = SynthShape::preset("9b").unwrap_err().to_string();
    assert!(PRESETS.iter().all(|(name, _)| error.contains(name)), "{error}");
}

#[test]
fn what_no_model_has_is_refused() {
    let refused = |shape: SynthShape| {
        let error = Synth::new("made.gguf", "llama", &shape, Synth::format("Q8_0").unwrap(), 0).unwrap_err();
        match error {
            SynthError::BadNumber { field, value, .. } => format!("{field} {value}"),
            error => panic!("{error:?}"),
        }
    };
    let base = SynthShape::default;
    assert_eq!(refused(SynthShape { layers: 0, ..base() }), "llama.block_count 0");
    assert_eq!(refused(SynthShape { layers: 10_001, ..base() }), "block_count 10001");
    assert_eq!(
        refused(SynthShape { feed_forward: usize::MAX, ..base() }),
        format!("llama.feed_forward_length {}", usize::MAX)
    );
    assert_eq!(refused(SynthShape { heads: 0, ..base() }), "embedding_length 256");
    assert_eq!(refused(SynthShape { heads: 7, ..base() }), "embedding_length 256");
    assert_eq!(refused(SynthShape { kv_heads: 3, ..base() }), "llama.attention.head_count_kv 3");
    assert_eq!(refused(SynthShape { key_length: Some(33), ..base() }), "llama.rope.dimension_count 33");
    assert_eq!(refused(SynthShape { context: 0, ..base() }), "llama.context_length 0");
    assert_eq!(refused(SynthShape { vocabulary: 258, ..base() }), "vocab_size 258");
    assert_eq!(refused(SynthShape { rope_base: f32::NAN, ..base() }), "rope.freq_base NaN");

    let format = |name| Mix::uniform(TensorFormat::from_name(name).unwrap());
    let narrow = SynthShape { embedding: 272, ..base() };
    let error = Synth::new("made.gguf", "llama", &narrow, format("Q8_0"), 0).unwrap_err();
    assert!(matches!(error, SynthError::Write(GgufWriteError::RowNotBlocks { row: 272, .. })), "{error}");
    let error = Synth::new("made.gguf", "abacus", &base(), format("Q8_0"), 0).unwrap_err();
    assert!(
        matches!(&error, SynthError::UnsupportedArchitecture { .. }) && error.to_string().contains("llama")
    );
    for name in ["NVFP4", "I32", "none"] {
        let error = Synth::format(name).unwrap_err();
        assert!(FORMATS.iter().all(|format| error.to_string().contains(format)), "{error}");
    }
    let error = Synth::new("made.gguf", "llama", &base(), format("NVFP4"), 0).unwrap_err();
    assert!(matches!(error, SynthError::UnsupportedFormat { .. }), "{error}");
}
