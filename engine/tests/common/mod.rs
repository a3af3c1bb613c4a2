//! Shared by the engine's tests: golden data, models, and running a session to its end.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    unreachable_pub,
    reason = "each test program uses its part of this"
)]

pub mod adapters;
pub mod company;
pub mod embedding;
pub mod gpu;
pub mod mixed;
pub mod polled;
pub mod reference;
pub mod requests;

use serde_json::Value;
use std::io::Read;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use weft::gguf::{Gguf, GgufHeader, GgufWriter, open_files};
use weft::storage::{FileSource, Source, StorageError, ThrottledSource};
use weft::synth::{Synth, SynthShape};
use weft::{
    Engine, EngineOptions, FinishReason, GenerateOptions, KeepLogits, Kernels, LoadOptions, ModelId,
    ModelSource, Prompt, SessionId, SessionOptions, TensorFormat,
};

/// The path of a file in `assets/golden`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/golden").join(name)
}

/// Parses a golden JSON file.
pub fn golden_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).expect(name)).expect(name)
}

/// The little-endian floats of a compressed golden file.
pub fn golden_floats(name: &str) -> Vec<f32> {
    let file = std::fs::File::open(golden(name)).expect(name);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect(name);
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The token ids in a JSON array.
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("an array").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Path of the real model: `WEFT_SMOLLM2` names it, as the test command in the README sets it.
pub fn smollm2() -> PathBuf {
    let path = std::env::var_os("WEFT_SMOLLM2").expect(
        "WEFT_SMOLLM2 must name SmolLM2-135M-Instruct.Q4_1.gguf; `weft pull` fetches it and prints its path",
    );
    PathBuf::from(path)
}

/// A file that is read at this many bytes per second.
pub fn throttled(path: &Path, bytes_per_second: u64) -> ModelSource {
    let rate = NonZeroU64::new(bytes_per_second).expect("a rate");
    let source = ThrottledSource::new(FileSource::open(path).expect("a file"), rate);
    ModelSource::Parts(vec![Arc::new(source) as Arc<dyn Source>])
}

/// A Llama model with random weights.
pub fn synthetic(shape: &SynthShape, format: &str) -> ModelSource {
    synthetic_of("llama", shape, format)
}

/// Like [`synthetic`], for any architecture.
pub fn synthetic_of(architecture: &str, shape: &SynthShape, format: &str) -> ModelSource {
    let format = Synth::format(format).expect("a format");
    let synth = Synth::new("synthetic", architecture, shape, format, 1).expect("a model");
    let bytes = synth.write(Vec::new(), 1, |_| ControlFlow::Continue(())).expect("a file");
    ModelSource::memory("synthetic.gguf", bytes)
}

/// The format of matrices in [`expanded`]; vectors are 32-bit floats in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    /// 32-bit floats, which hold every weight exactly.
    F32,
    /// IEEE half floats, which round weights, as in a peer's expansion.
    F16,
}

/// The same model in memory with its weights as floats, so that activations are not rounded to 8 bits.
pub fn expanded(path: &Path, matrices: Expanded) -> ModelSource {
    let sources = open_files(path).expect("a file");
    let gguf = Gguf::read(&sources).expect("a model");
    let format = |name: &str| TensorFormat::from_name(name).expect("a format");
    let (single, half) = (format("F32"), format("F16"));
    let halved = |shape: &[u64]| matrices == Expanded::F16 && shape.len() > 1;
    let mut header = GgufHeader::new(&gguf.metadata).expect("metadata");
    for tensor in &gguf.tensors {
        let format = if halved(&tensor.shape) { half } else { single };
        header.tensor(&tensor.name, format, &tensor.shape).expect("a tensor");
    }
    let bytes = Vec::with_capacity(usize::try_from(header.file_bytes()).expect("a size"));
    let mut writer = GgufWriter::new(bytes, &header).expect("a header");
    for tensor in &gguf.tensors {
        let bytes = sources[tensor.source].read(tensor.range.clone()).expect("weights");
        let mut values = vec![0.0; usize::try_from(tensor.elements()).expect("a size")];
        assert!(tensor.format.dequantize(&bytes, &mut values), "{}", tensor.name);
        let data: Vec<u8> = if halved(&tensor.shape) {
            let mut halves = vec![0; values.len()];
            Kernels::detect().to_f16(&values, &mut halves);
            halves.iter().flat_map(|half| half.to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        writer.data(&data).expect("weights");
    }
    ModelSource::memory("expanded.gguf", writer.finish().expect("a file"))
}

/// An engine with one completely loaded model.
pub fn loaded(path: &Path) -> (Engine, ModelId) {
    loaded_with(path, &EngineOptions::default())
}

/// An engine with these options and one completely loaded model.
pub fn loaded_with(path: &Path, options: &EngineOptions) -> (Engine, ModelId) {
    let mut engine = Engine::new(options).expect("an engine");
    let model = engine.load(path, &LoadOptions::default()).expect("a model");
    engine.wait_loaded(model).expect("a whole model");
    (engine, model)
}

/// Opens a session prompted with `tokens`.
pub fn told(engine: &mut Engine, model: ModelId, tokens: &[u32]) -> SessionId {
    let session = engine.open_session(model, &SessionOptions::default()).expect("a session");
    engine.append(session, Prompt::Tokens(tokens.to_vec())).expect("a prompt");
    session
}

/// The logits at `positions` after `tokens`.
pub fn logits(
    engine: &mut Engine,
    model: ModelId,
    tokens: &[u32],
    positions: &[usize],
    chunk: usize,
) -> Vec<Vec<f32>> {
    let session = told(engine, model, tokens);
    engine.ask_logits(session, positions.to_vec(), KeepLogits::Row, chunk).expect("a question");
    assert_eq!(engine.wait(session).expect("an end"), FinishReason::MaxTokens);
    let kept = engine.take_logits(session).expect("logits");
    engine.close(session);
    assert_eq!(kept.rows.len(), positions.len());
    kept.rows
}

/// The next `count` greedy tokens after `tokens`.
pub fn greedy(engine: &mut Engine, model: ModelId, tokens: &[u32], count: usize) -> Vec<u32> {
    // Shares nothing with others, so that it can be the reference of those that do.
    let private = SessionOptions { private: true, ..SessionOptions::default() };
    let session = engine.open_session(model, &private).expect("a session");
    engine.append(session, Prompt::Tokens(tokens.to_vec())).expect("a prompt");
    let options = GenerateOptions { max_tokens: Some(count), ignore_end: true, ..GenerateOptions::default() };
    engine.generate(session, &options).expect("a request");
    engine.wait(session).expect("an end");
    let tokens = engine.output(session).expect("output").tokens.clone();
    engine.close(session);
    tokens
}

/// Index of the largest value.
pub fn argmax(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Kullback-Leibler divergence in nats of `found` from `exact`, both rows of logits.
pub fn divergence(exact: &[f32], found: &[f32]) -> f64 {
    let log_softmax = |row: &[f32]| {
        let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - top).exp()).sum();
        row.iter().map(|x| f64::from(*x) - top - sum.ln()).collect::<Vec<_>>()
    };
    let (p, q) = (log_softmax(exact), log_softmax(found));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// The gap between the reference's two best logits at each of its greedy steps.
pub fn gaps(reference: &Value) -> Vec<f64> {
    let steps = reference["greedy_top2_logits"].as_array().expect("an array").iter();
    let value = |logit: &Value| logit.as_f64().expect("a logit");
    steps.map(|best| value(&best[0]) - value(&best[1])).collect()
}

/// What a source polls that only reads.
pub(crate) fn poll_by_reading(
    source: &impl Source,
    offset: u64,
    buffer: &mut [u8],
) -> Poll<Result<usize, StorageError>> {
    let bytes = source.read(offset..offset + buffer.len() as u64)?;
    buffer.copy_from_slice(&bytes);
    Poll::Ready(Ok(buffer.len()))
}
