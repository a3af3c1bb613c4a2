//! Small models of every architecture compared with llama.cpp (`assets/golden/tiny`) and transformers
//! (`assets/golden/hf`); every file there is compared with its reference. Also synthetic models of each architecture,
//! files with other layouts, and files that are wrong.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::embedding::{self, difference, prompts, reference_states, texts};
use crate::common::reference::{MOST_DIFFERENCE, hf_difference, tiny_agrees};
use crate::common::{golden, greedy, ids, logits};
use std::ops::ControlFlow;
use std::sync::Arc;
use weft::gguf::{Gguf, GgufHeader, GgufWriter, Metadata, Value};
use weft::storage::{MemorySource, Source};
use weft::synth::{Synth, SynthShape};
use weft::{
    ARCHITECTURES, EmbedOptions, Engine, EngineOptions, Error, KvFormat, LoadOptions, ModelError, ModelId,
    ModelSource, Pooling, TensorFormat,
};

/// Names of the JSON files with `logits` in a folder of golden data.
pub(crate) fn references(folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(golden(folder)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn tiny_models_agree_with_llama_cpp() {
    // The files of a single format have exact references of their own, tested elsewhere.
    let exact = |name: &str| name.starts_with("tiny-llama-") || name.ends_with("-exact");
    let names: Vec<_> = references("tiny").into_iter().filter(|name| !exact(name)).collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        let most = tiny_agrees(&name, &EngineOptions::default());
        println!("{name}: KL {most:.1e}");
    }
}

#[test]
fn models_agree_with_transformers() {
    let names = references("hf");
    assert!(names.len() >= 22, "{names:?}");
    let mut wrong = Vec::new();
    for name in &names {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let difference = hf_difference(name, &mut engine, KvFormat::F32).largest;
        println!("{name}: {difference:.1e} of the largest logit");
        if difference.is_nan() || difference > MOST_DIFFERENCE {
            wrong.push((name, difference));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn load(source: ModelSource) -> Result<(Engine, ModelId), Error> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    let model = engine.load(source, &LoadOptions::default())?;
    engine.wait_loaded(model)?;
    Ok((engine, model))
}

#[test]
fn a_made_up_model_of_each_architecture_answers() {
    for arch in ARCHITECTURES.iter().filter(|arch| arch.causal) {
        let window = arch.windows.map(|_| 8);
        let shape = SynthShape { layers: 6, window, ..SynthShape::default() };
        let plan = Synth::new("made.gguf", arch.name, &shape, Synth::format("Q8_0").unwrap(), 1).unwrap();
        let file = plan.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap();
        let (mut engine, model) = load(ModelSource::memory(arch.name, file)).unwrap();
        let prompt: Vec<u32> = (10..40).collect();
        assert_eq!(greedy(&mut engine, model, &prompt, 4).len(), 4, "{}", arch.name);
        let row = &logits(&mut engine, model, &prompt, &[29], 0)[0];
        assert!(row.iter().all(|logit| logit.is_finite()), "{}", arch.name);
        let square = row.iter().map(|logit| logit * logit).sum::<f32>() / row.len() as f32;
        assert!((0.01..100.0).contains(&square), "{}: logits of size {}", arch.name, square.sqrt());
    }
}

// --- Files with other layouts ---------------------------------------------------------------------------------------

/// A tensor of a file that is written again with changes.
#[derive(Clone)]
struct Tensor {
    name: String,
    format: TensorFormat,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

/// A golden model with changed metadata and tensors; of `tiny` if no folder is named.
fn remade(
    name: &str,
    entries: impl Fn(&mut Vec<(String, Value)>),
    tensors: impl Fn(Vec<Tensor>) -> Vec<Tensor>,
) -> ModelSource {
    let source: Arc<dyn Source> =
        Arc::new(MemorySource::new(name, std::fs::read(golden(&format!("{}.gguf", path(name)))).unwrap()));
    let gguf = Gguf::read(std::slice::from_ref(&source)).unwrap();
    let mut metadata: Vec<_> =
        gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    entries(&mut metadata);
    let read = |tensor: &weft::gguf::TensorInfo| Tensor {
        name: tensor.name.clone(),
        format: tensor.format,
        shape: tensor.shape.clone(),
        bytes: source.read(tensor.range.clone()).unwrap().to_vec(),
    };
    let tensors = tensors(gguf.tensors.iter().map(read).collect());
    let mut header = GgufHeader::new(&Metadata::new(name, metadata).unwrap()).unwrap();
    for tensor in &tensors {
        header.tensor(&tensor.name, tensor.format, &tensor.shape).unwrap();
    }
    let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
    tensors.iter().for_each(|tensor| writer.data(&tensor.bytes).unwrap());
    ModelSource::memory(name, writer.finish().unwrap())
}

fn path(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("tiny/{name}") }
}

fn as_it_is(_: &mut Vec<(String, Value)>) {}

/// Stores each expert's matrix as a tensor of its own, as early Mixtral files do.
fn apart(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let split = |tensor: Tensor| {
        let Some(stem) = tensor.name.strip_suffix("_exps.weight").map(str::to_owned) else {
            return vec![tensor];
        };
        let experts = tensor.shape[2] as usize;
        let parts = tensor.bytes.chunks_exact(tensor.bytes.len() / experts).enumerate();
        parts
            .map(|(expert, bytes)| Tensor {
                name: format!("{stem}.{expert}.weight"),
                shape: tensor.shape[..2].to_vec(),
                bytes: bytes.to_vec(),
                ..tensor.clone()
            })
            .collect()
    };
    tensors.into_iter().flat_map(split).collect()
}

/// Fuses queries, keys and values into one tensor, and gate and up of all experts into another.
fn fused(mut tensors: Vec<Tensor>) -> Vec<Tensor> {
    for layer in 0..3 {
        let mut take = |part: &str| {
            let name = format!("blk.{layer}.{part}.weight");
            let at = tensors.iter().position(|tensor| tensor.name == name).unwrap();
            tensors.remove(at)
        };
        let qkv = ["attn_q", "attn_k", "attn_v"].map(&mut take);
        let [gate, up] = ["ffn_gate_exps", "ffn_up_exps"].map(&mut take);
        tensors.push(Tensor {
            name: format!("blk.{layer}.attn_qkv.weight"),
            format: qkv[0].format,
            shape: vec![qkv[0].shape[0], qkv.iter().map(|tensor| tensor.shape[1]).sum()],
            bytes: qkv.iter().flat_map(|tensor| tensor.bytes.clone()).collect(),
        });
        let expert = gate.bytes.len() / gate.shape[2] as usize;
        let pairs = gate.bytes.chunks_exact(expert).zip(up.bytes.chunks_exact(expert));
        tensors.push(Tensor {
            name: format!("blk.{layer}.ffn_gate_up_exps.weight"),
            format: gate.format,
            shape: vec![gate.shape[0], 2 * gate.shape[1], gate.shape[2]],
            bytes: pairs.flat_map(|(gate, up)| [gate, up].concat()).collect(),
        });
    }
    tensors
}

#[test]
fn tensors_fused_or_apart_are_the_same_model() {
    let tokens = ids(&crate::common::golden_json("tiny/tiny-mixtral.json")["tokens"]);
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let said = |source| {
        let (mut engine, model) = load(source).unwrap();
        logits(&mut engine, model, &tokens, &positions, 0)
    };
    let stacked = said(remade("tiny-mixtral", as_it_is, |tensors| tensors));
    assert!(said(remade("tiny-mixtral", as_it_is, apart)) == stacked);
    assert!(said(remade("tiny-mixtral", as_it_is, fused)) == stacked);
}

/// Any decoder may be converted as an encoder, whose tokens attend to the whole text.
#[test]
fn a_llama_that_sees_its_whole_text_agrees_with_transformers() {
    let change = |entries: &mut Vec<(String, Value)>| {
        // The vocabulary is synthetic, so it is removed.
        entries.retain(|(key, _)| !key.starts_with("tokenizer."));
        entries.push(("llama.attention.causal".to_owned(), Value::Bool(false)));
    };
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let options = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    let model = engine.load(remade("hf/llama", change, |tensors| tensors), &options).unwrap();
    let texts = texts("llama-whole");
    let states = reference_states("llama-whole", &texts, engine.config(model).unwrap().embedding);
    let each = EmbedOptions { pooling: Some(Pooling::None), normalize: false, ..EmbedOptions::default() };
    let found = engine.embed(model, &prompts(&texts), &each).unwrap();
    let difference = difference(&found, &states);
    println!("llama-whole: {difference:.1e} of the largest component");
    assert!(difference < embedding::MOST_DIFFERENCE, "{difference:.1e}");
}

// --- Files that are wrong -------------------------------------------------------------------------------------------

/// The error that a file is refused with.
fn refusal(source: ModelSource) -> Arc<ModelError> {
    match load(source) {
        Err(Error::Model(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a wrong file loads"),
    }
}

/// Changes one key, or adds it if it is missing.
fn with(key: &'static str, value: Value) -> impl Fn(&mut Vec<(String, Value)>) {
    move |entries| {
        entries.retain(|(found, _)| found != key);
        entries.push((key.to_owned(), value.clone()));
    }
}

fn without(name: &'static str) -> impl Fn(Vec<Tensor>) -> Vec<Tensor> {
    move |mut tensors| {
        tensors.retain(|tensor| tensor.name != name);
        tensors
    }
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let unknown = with("general.architecture", Value::String("abacus".into()));
    let error = refusal(remade("tiny-llama", unknown, |tensors| tensors)).to_string();
    assert!(error.contains("`abacus`"), "{error}");
    assert!(ARCHITECTURES.iter().all(|arch| error.contains(arch.name)), "{error}");
}

#[test]
fn experts_that_are_not_there_are_an_error_at_once() {
    let same = |tensors| tensors;
    let count = |value| with("llama.expert_count", Value::U32(value));
    for huge in [1_000_000, u32::MAX] {
        let error = refusal(remade("tiny-mixtral", count(huge), same));
        assert!(
            matches!(&*error, ModelError::BadMetadata { key, .. } if key == "llama.expert_count"),
            "{error}"
        );
    }
    let error = refusal(remade("tiny-mixtral", count(4096), same));
    assert!(matches!(&*error, ModelError::BadShape { .. }), "{error}");
    let error = refusal(remade("tiny-mixtral", count(5), apart));
    assert!(matches!(&*error, ModelError::BadShape { .. } | ModelError::MissingTensor { .. }), "{error}");
    let used = with("llama.expert_used_count", Value::U32(5));
    let error = refusal(remade("tiny-mixtral", used, same));
    assert!(matches!(&*error, ModelError::BadMetadata { .. }), "{error}");
    let last = |tensors| without("blk.1.ffn_up.3.weight")(apart(tensors));
    let error = refusal(remade("tiny-mixtral", as_it_is, last));
    assert!(
        matches!(&*error, ModelError::MissingTensor { name, .. } if name == "blk.1.ffn_up.3.weight"),
        "{error}"
    );
    let gate = with("qwen2moe.expert_gating_func", Value::U32(2));
    let error = refusal(remade("tiny-qwen2moe", gate, same));
    assert!(matches!(&*error, ModelError::BadMetadata { .. }), "{error}");
}

#[test]
fn tensors_that_are_missing_or_unknown_are_named() {
    for (model, name) in [
        ("tiny-qwen2", "blk.1.attn_k.bias"),
        ("tiny-qwen3", "blk.0.attn_q_norm.weight"),
        ("tiny-gemma2", "blk.3.post_ffw_norm.weight"),
        ("tiny-phi3", "blk.2.attn_qkv.weight"),
        ("tiny-phi3-long", "rope_factors_short.weight"),
        ("tiny-qwen2moe", "blk.0.ffn_gate_inp_shexp.weight"),
        ("tiny-qwen3moe", "blk.2.ffn_down_exps.weight"),
        ("tiny-bitnet", "blk.1.ffn_sub_norm.weight"),
    ] {
        let error = refusal(remade(model, as_it_is, without(name)));
        assert!(
            matches!(&*error, ModelError::MissingTensor { name: found, .. } if found == name),
            "{model}: {error}"
        );
    }
    // A tensor of another architecture, and a second tensor of the same role.
    for name in ["blk.0.post_ffw_norm.weight", "blk.0.attn_qkv.weight"] {
        let more = |mut tensors: Vec<Tensor>| {
            tensors.push(Tensor { name: name.to_owned(), ..tensors[0].clone() });
            tensors
        };
        let error = refusal(remade("tiny-llama", as_it_is, more));
        assert!(matches!(&*error, ModelError::UnusedTensor { name: found, .. } if found == name), "{error}");
    }
}

#[test]
fn encoders_that_are_wrong_are_refused() {
    for name in [
        "position_embd.weight",
        "token_types.weight",
        "token_embd_norm.bias",
        "blk.1.attn_output.bias",
        "blk.2.layer_output_norm.weight",
        "blk.0.ffn_up.bias",
    ] {
        let error = refusal(remade("embed/bert", as_it_is, without(name)));
        assert!(matches!(&*error, ModelError::MissingTensor { name: found, .. } if found == name), "{error}");
    }
    let same = |tensors| tensors;
    // The position embedding has one row fewer than the stated context.
    let error = refusal(remade("embed/bert", with("bert.context_length", Value::U32(97)), same));
    assert!(matches!(&*error, ModelError::BadShape { .. }), "{error}");
    let bad = |model: &str, key: &'static str, value| {
        let error = refusal(remade(model, with(key, value), same));
        assert!(matches!(&*error, ModelError::BadMetadata { key: found, .. } if found == key), "{error}");
    };
    bad("embed/bert", "bert.pooling_type", Value::U32(4));
    bad("embed/bert", "bert.attention.layer_norm_epsilon", Value::F32(f32::NAN));
    bad("tiny-gemma2", "gemma2.attention.causal", Value::Bool(false));
}

#[test]
fn windows_say_what_they_mean() {
    let same = |tensors| tensors;
    let windows = |source| {
        let (engine, model) = load(source).unwrap();
        let config = engine.config(model).unwrap();
        config.layer.iter().map(|layer| layer.window).collect::<Vec<_>>()
    };
    let (none, some) = (None, Some(16));
    assert_eq!(windows(remade("tiny-gemma2", as_it_is, same)), [some, none, some, none]);
    let every = with("gemma2.attention.sliding_window_pattern", Value::U32(3));
    assert_eq!(windows(remade("tiny-gemma2", every, same)), [some, some, none, some]);
    let each = weft::gguf::Array::Bool(vec![false, true, true, false]);
    let each = with("gemma2.attention.sliding_window_pattern", Value::Array(each));
    assert_eq!(windows(remade("tiny-gemma2", each, same)), [none, some, some, none]);
    let off = with("gemma3.attention.sliding_window", Value::U32(0));
    assert_eq!(windows(remade("tiny-gemma3", off, same)), [none; 7]);
    let mistral = with("llama.attention.sliding_window", Value::U32(16));
    assert_eq!(windows(remade("tiny-mistral", mistral, same)), [some; 3]);
    let few =
        with("gemma2.attention.sliding_window_pattern", Value::Array(weft::gguf::Array::Bool(vec![true])));
    let error = refusal(remade("tiny-gemma2", few, same));
    assert!(matches!(&*error, ModelError::BadMetadata { .. }), "{error}");
}
