//! Small models of each supported architecture against llama.cpp.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{argmax, divergence, golden, golden_json, greedy, ids, loaded, loaded_with, logits};
use weft::{EngineOptions, Kernels};

/// llama.cpp rounds activations as it goes: what its JSON allows for (`assets/golden/README.md`).
const MOST_DIVERGENCE: f64 = 1e-4;
/// Where its two best logits are nearer than this, the argmax may be either.
const CLEAR: f64 = 1e-2;

fn agrees(name: &str, options: &EngineOptions) {
    let reference = golden_json(&format!("tiny/{name}.json"));
    let (mut engine, model) = loaded_with(&golden(&format!("tiny/{name}.gguf")), options);
    let tokens = ids(&reference["tokens"]);
    let positions: Vec<usize> = ids(&reference["logit_positions"]).into_iter().map(|p| p as usize).collect();
    let rows = logits(&mut engine, model, &tokens, &positions, 0);
    for ((row, wanted), position) in rows.iter().zip(reference["logits"].as_array().unwrap()).zip(&positions)
    {
        let wanted: Vec<f32> =
            wanted.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let divergence = divergence(&wanted, row);
        assert!(divergence < MOST_DIVERGENCE, "{name} at {position}: KL {divergence}");
    }
    // Teacher forcing: the reference's own tokens, the argmax at each.
    let wanted = ids(&reference["greedy"]);
    let gaps: Vec<f64> = reference["greedy_top2_logits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|two| two[0].as_f64().unwrap() - two[1].as_f64().unwrap())
        .collect();
    let whole: Vec<u32> = tokens.iter().chain(&wanted).copied().collect();
    let positions: Vec<usize> = (0..wanted.len()).map(|step| tokens.len() - 1 + step).collect();
    for (step, row) in logits(&mut engine, model, &whole, &positions, 0).iter().enumerate() {
        assert!(
            gaps[step] < CLEAR || argmax(row) == wanted[step] as usize,
            "{name}: step {step} gives {} where the reference has {}",
            argmax(row),
            wanted[step]
        );
    }
    let sure = gaps.iter().position(|gap| *gap < CLEAR).unwrap_or(wanted.len());
    assert_eq!(
        greedy(&mut engine, model, &tokens, wanted.len())[..sure],
        wanted[..sure],
        "{name}: free text"
    );
}

#[test]
fn llama() {
    agrees("tiny-llama", &EngineOptions::default());
}

#[test]
fn llama31_with_rope_factors_and_a_tied_head() {
    agrees("tiny-llama31", &EngineOptions::default());
}

#[test]
fn mistral_with_one_kv_head() {
    agrees("tiny-mistral", &EngineOptions::default());
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
            agrees("tiny-llama", &options);
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
