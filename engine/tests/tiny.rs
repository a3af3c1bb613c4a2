//! A small model in several formats and on several instruction sets. The test of every architecture is in
//! `architectures.rs`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::reference::{MOST_DIVERGENCE, format_divergence, tiny_agrees};
use crate::common::{golden, golden_json, ids, loaded, loaded_with, logits};
use weft::{EngineOptions, Kernels};

#[test]
fn float_weights_meet_exact_activations() {
    for format in ["f32", "bf16"] {
        let (mean, _) = format_divergence(format, &EngineOptions::default());
        assert!(mean < MOST_DIVERGENCE, "{format}: {mean:.2e}");
    }
}

#[test]
fn quantized_weights_cost_what_they_cost_llama_cpp() {
    // Both round activations to 8 bits in their own way, so both figures are samples of the same noise; over 120 rows
    // it varies by about a tenth. A wrong nibble, scale or minimum costs a hundred times as much.
    const NOISE: f64 = 1.25;
    let (ours, peers): (Vec<f64>, Vec<f64>) =
        ["q8_0", "q4_0", "q4_1"].iter().map(|f| format_divergence(f, &EngineOptions::default())).unzip();
    let (mean, peer) = (ours.iter().sum::<f64>() / 3.0, peers.iter().sum::<f64>() / 3.0);
    assert!(mean <= NOISE * peer, "{mean:.2e} against {peer:.2e}");
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let mut first: Option<Vec<Vec<f32>>> = None;
    for kernels in Kernels::available() {
        for threads in [1, 2] {
            let options =
                EngineOptions { isa: Some(kernels.name().to_owned()), threads, ..EngineOptions::default() };
            tiny_agrees("tiny-llama", &options);
            let (mut engine, model) = loaded_with(&golden("tiny/tiny-llama.gguf"), &options);
            let rows = logits(&mut engine, model, &tokens, &positions, 0);
            let first = first.get_or_insert_with(|| rows.clone());
            assert!(*first == rows, "{} on {threads} threads differs", kernels.name());
        }
    }
}

#[test]
fn a_model_stays_small() {
    let (engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let progress = engine.progress(model).unwrap();
    assert_eq!((progress.shards, progress.layers), (30, 3));
    assert_eq!(progress.bytes, progress.total_bytes);
}
