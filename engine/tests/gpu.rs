//! Models on a GPU against the references and the CPU.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

mod common;

use common::{argmax, divergence, gaps, golden, golden_json, greedy, ids, loaded_with, logits};
use weft::{EngineOptions, GpuOptions};

fn on_gpu(plain: bool) -> EngineOptions {
    EngineOptions { gpu: Some(GpuOptions { plain, ..GpuOptions::default() }), ..EngineOptions::default() }
}

/// llama.cpp rounds activations as it goes: what its JSON allows for (`assets/golden/README.md`).
const MOST_DIVERGENCE: f64 = 1e-4;
/// Where its two best logits are nearer than this, the argmax may be either.
const CLEAR: f64 = 1e-2;

fn floats(row: &serde_json::Value) -> Vec<f32> {
    row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn agrees(name: &str, options: &EngineOptions) {
    let reference = golden_json(&format!("tiny/{name}.json"));
    let (mut engine, model) = loaded_with(&golden(&format!("tiny/{name}.gguf")), options);
    let tokens = ids(&reference["tokens"]);
    let positions: Vec<usize> = ids(&reference["logit_positions"]).into_iter().map(|p| p as usize).collect();
    let rows = logits(&mut engine, model, &tokens, &positions, 0);
    for ((row, wanted), position) in rows.iter().zip(reference["logits"].as_array().unwrap()).zip(&positions)
    {
        let divergence = divergence(&floats(wanted), row);
        println!("{name} at {position}: KL {divergence:.2e}");
        assert!(divergence < MOST_DIVERGENCE, "{name} at {position}: KL {divergence}");
    }
    let wanted = ids(&reference["greedy"]);
    let gaps = gaps(&reference);
    let whole: Vec<u32> = tokens.iter().chain(&wanted).copied().collect();
    let positions: Vec<usize> = (0..wanted.len()).map(|step| tokens.len() - 1 + step).collect();
    for (step, row) in logits(&mut engine, model, &whole, &positions, 0).iter().enumerate() {
        assert!(gaps[step] < CLEAR || argmax(row) == wanted[step] as usize, "{name}: step {step}");
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
    for plain in [false, true] {
        agrees("tiny-llama", &on_gpu(plain));
    }
}

#[test]
fn llama31_with_rope_factors_and_a_tied_head() {
    for plain in [false, true] {
        agrees("tiny-llama31", &on_gpu(plain));
    }
}

#[test]
fn mistral_with_one_kv_head() {
    for plain in [false, true] {
        agrees("tiny-mistral", &on_gpu(plain));
    }
}
