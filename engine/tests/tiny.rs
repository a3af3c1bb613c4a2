//! Small models of each supported architecture against llama.cpp.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

mod common;

use common::{argmax, divergence, gaps, golden, golden_json, greedy, ids, loaded, loaded_with, logits};
use weft::{EngineOptions, Kernels};

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
        assert!(divergence < MOST_DIVERGENCE, "{name} at {position}: KL {divergence}");
    }
    // Teacher forcing: the reference's own tokens, the argmax at each.
    let wanted = ids(&reference["greedy"]);
    let gaps = gaps(&reference);
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

/// Mean KL divergence of a format's logits from those of exact activations: ours and llama.cpp's.
fn divergence_of(format: &str) -> (f64, f64) {
    let reference = golden_json(&format!("tiny/tiny-llama-{format}.json"));
    let (mut engine, model) = loaded(&golden(&format!("tiny/tiny-llama-{format}.gguf")));
    let tokens = ids(&reference["tokens"]);
    let rows = logits(&mut engine, model, &tokens, &(0..tokens.len()).collect::<Vec<_>>(), 0);
    let exact = reference["logits"].as_array().unwrap().iter().map(floats);
    let divergences = rows.iter().zip(exact).map(|(row, exact)| divergence(&exact, row));
    let (mean, peer) =
        (divergences.sum::<f64>() / rows.len() as f64, reference["divergence"].as_f64().unwrap());
    println!("{format}: mean KL from exact activations {mean:.2e}, llama.cpp's {peer:.2e}");
    (mean, peer)
}

#[test]
fn float_weights_meet_exact_activations() {
    for format in ["f32", "bf16"] {
        let (mean, _) = divergence_of(format);
        assert!(mean < MOST_DIVERGENCE, "{format}: {mean:.2e}");
    }
}

#[test]
fn quantized_weights_cost_what_they_cost_llama_cpp() {
    // Both round activations to 8 bits, each in its own way, so both figures are samples of the same noise; over 120
    // rows it varies by about a tenth. A wrong nibble, scale or minimum costs a hundred times as much.
    const NOISE: f64 = 1.25;
    let (ours, peers): (Vec<f64>, Vec<f64>) =
        ["q8_0", "q4_0", "q4_1"].iter().map(|f| divergence_of(f)).unzip();
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
