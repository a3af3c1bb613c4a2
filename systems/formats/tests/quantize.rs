//! Encoders: decoded values are close to the original, at least as close as with llama.cpp's quantizer.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use crate::gguf_support::golden_bytes;
use flate2::read::GzDecoder;
use half::f16;
use serde_json::Value as Json;
use std::io::Read;
use weft_components::TensorFormat;
use weft_formats::quantize::{EncodeError, quantize_rows, quantized_formats};
use weft_platform::{Cpu, Kernels, Pool};

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

/// Returns the sum of squared errors divided by the sum of squares.
fn error(format: TensorFormat, rows: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let errors: f64 = round_trip(format, rows).iter().zip(rows).map(|(a, b)| square(a - b)).sum();
    errors / rows.iter().map(|x| square(*x)).sum::<f64>()
}

/// Reads the golden rows: Gaussian, Laplace, and rows of a model.
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

#[test]
fn numbers_that_a_format_has_come_back_as_they_were() {
    // Blocks that use both ends of the code range.
    let integers: Vec<f32> = (0..256).map(|i| ((i * 5) % 16) as f32 - 8.0).collect();
    for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0"] {
        assert_eq!(round_trip(format(name), &integers), integers, "{name}");
    }
    let wider: Vec<f32> = (0..256).map(|i| ((i * 5) % 32) as f32 - 16.0).collect();
    assert_eq!(round_trip(format("Q5_1"), &wider), wider);
    // The largest element of each block has the largest code.
    let bytes: Vec<f32> =
        (0..256).map(|i| if i % 32 == 9 { 127.0 } else { ((i * 37) % 255) as f32 - 127.0 }).collect();
    assert_eq!(round_trip(format("Q8_0"), &bytes), bytes);
    let ternary: Vec<f32> = (0..256).map(|i| 0.75 * ((i * 7) % 3) as f32 - 0.75).collect();
    for name in ["TQ1_0", "TQ2_0"] {
        assert_eq!(round_trip(format(name), &ternary), ternary, "{name}");
    }
    let floats = [0.0, 0.5, -1.0, 1.5, -2.0, 3.0, 4.0, -6.0].repeat(32);
    assert_eq!(round_trip(format("MXFP4"), &floats), floats);
}

#[test]
fn no_scale_is_too_small_or_too_uneven() {
    let shapes: [(&str, fn(usize) -> f32); 6] = [
        ("zeros", |_| 0.0),
        ("one", |i| if i == 100 { -1.0 } else { 0.0 }),
        ("equal", |_| 0.3),
        ("far from zero", |i| 1.0 + 0.001 * (i % 7) as f32),
        ("uneven", |i| if i < 32 { 100.0 } else { 1e-4 } * ((i * 29 % 64) as f32 - 31.0)),
        ("negative", |i| -0.01 * (i % 32) as f32),
    ];
    for (shape, value) in shapes {
        for scale in [1.0, 1e-3, 1e-30, 1e-44] {
            let rows: Vec<f32> = (0..512).map(|i| scale * value(i)).collect();
            let largest = rows.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for format in quantized_formats() {
                // No error exceeds the largest magnitude, the error of encoding everything as zero.
                let back = round_trip(format, &rows);
                let worst = back.iter().zip(&rows).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
                assert!(worst <= 1.001 * largest + 1e-37, "{format} {shape} {scale}: {worst} of {largest}");
                if rows.iter().all(|x| *x == 0.0) {
                    assert_eq!(worst, 0.0, "{format} {shape}");
                }
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let rows = &golden_rows()[..75 * 256];
    let pool = Pool::new(3).unwrap();
    let cpu = pool.cpu(Kernels::detect());
    for format in quantized_formats() {
        let mut parallel = vec![1, 2, 3];
        pool.install(|| quantize_rows(cpu, format, rows, 256, &mut parallel)).unwrap();
        assert_eq!(parallel[..3], [1, 2, 3]);
        assert!(parallel[3..] == quantized(format, rows, 256 * 5), "{format}");
    }
}

#[test]
fn what_cannot_be_quantized_is_named() {
    let refused = |format: TensorFormat, rows: &[f32], cols| {
        let mut out = vec![7];
        let error = quantize_rows(Cpu::serial(), format, rows, cols, &mut out).unwrap_err();
        assert_eq!(out, [7]);
        error
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut rows = vec![0.5; 8192];
        rows[5000] = bad;
        rows[8000] = bad;
        for format in quantized_formats() {
            let error = refused(format, &rows, 256);
            let EncodeError::NotFinite { index: 5000, value } = error else { panic!("{format}: {error}") };
            assert_eq!(value.to_bits(), bad.to_bits());
        }
    }
    let mut rows = vec![0.5; 8192];
    rows[4500] = -3e38;
    for format in quantized_formats().filter(|format| !["F32", "BF16", "MXFP4"].contains(&format.name())) {
        let error = refused(format, &rows, 256);
        assert!(matches!(error, EncodeError::TooLarge { index: 4500, .. }), "{format}: {error}");
    }
    assert!(round_trip(format("MXFP4"), &rows)[4500] < -2e38);
    let half = refused(format("F16"), &[1.0, 65_520.0], 2).to_string();
    assert!(half.contains("element 1 is 65520") && half.contains("F16"), "{half}");
    assert!(matches!(refused(format("BF16"), &[f32::MAX], 1), EncodeError::TooLarge { index: 0, .. }));
    let q4_k = format("Q4_K");
    let error = refused(q4_k, &rows, 64);
    assert!(matches!(error, EncodeError::Columns { cols: 64, block: 256, .. }), "{error}");
    assert!(matches!(refused(q4_k, &rows, 0), EncodeError::Columns { cols: 0, .. }));
    assert!(matches!(refused(q4_k, &rows[1..], 256), EncodeError::Rows { elements: 8191, cols: 256 }));
    let error = refused(format("IQ2_XS"), &rows, 256).to_string();
    assert!(quantized_formats().all(|format| error.contains(format.name())), "{error}");
}
