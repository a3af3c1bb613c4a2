//! Encoders of formats: what comes back is near what went in, and no farther than from llama.cpp's quantizer.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod gguf_support;

use flate2::read::GzDecoder;
use gguf_support::golden_bytes;
use half::f16;
use serde_json::Value as Json;
use std::io::Read;
use weft_components::TensorFormat;
use weft_platform::{Cpu, Kernels, Pool};
use weft_systems::load::quantize::{EncodeError, quantize_rows, quantized_formats};

/// Elements of each kind of golden rows.
const KIND: usize = 128 * 256;

fn format(name: &str) -> TensorFormat {
    TensorFormat::from_name(name).unwrap()
}

fn quantized(format: TensorFormat, rows: &[f32], cols: usize) -> Vec<u8> {
    let mut out = Vec::new();
    quantize_rows(Cpu::serial(), format, rows, cols, &mut out).unwrap();
    out
}

fn round_trip(format: TensorFormat, rows: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; rows.len()];
    assert!(format.dequantize(&quantized(format, rows, rows.len()), &mut values));
    values
}

/// Squared errors over squares.
fn error(format: TensorFormat, rows: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let errors: f64 = round_trip(format, rows).iter().zip(rows).map(|(a, b)| square(a - b)).sum();
    errors / rows.iter().map(|x| square(*x)).sum::<f64>()
}

/// The golden rows: Gaussian, Laplace, of a model.
fn golden_rows() -> Vec<f32> {
    let mut bytes = Vec::new();
    GzDecoder::new(golden_bytes("quantize/rows.f16.gz").as_slice()).read_to_end(&mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
}

#[test]
fn errors_are_no_larger_than_llama_cpps() {
    let golden: Json = serde_json::from_slice(&golden_bytes("quantize/errors.json")).unwrap();
    let rows = golden_rows();
    let mut worse = Vec::new();
    for (name, errors) in golden.as_object().unwrap() {
        for (kind, rows) in ["gaussian", "laplace", "model"].iter().zip(rows.chunks_exact(KIND)) {
            let (ours, theirs) = (error(format(name), rows), errors[kind].as_f64().unwrap());
            println!("{name:8} {kind:8} {ours:.3e} {theirs:.3e} {:.4}", ours / theirs);
            if ours > 1.01 * theirs {
                worse.push(format!("{name} {kind}: {ours} against {theirs}"));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
