//! Models with several formats on a GPU: logits equal the CPU's, on every kernel that reads weights, and on both paths.

use crate::common::gpu::{PATHS, on_gpu, on_gpu_unharmed};
use crate::common::mixed::{Mix, Q4_K_M, mixed};
use crate::common::{divergence, logits};
use weft::synth::SynthShape;
use weft::{Engine, EngineOptions, LoadOptions, ModelId};

/// Every layout at least once, together with those of [`Q4_K_M`].
const OTHERS: Mix = &[
    ("token_embd", "Q5_0"),
    ("blk.0.attn_q", "Q2_K"),
    ("blk.0.attn_k", "Q3_K"),
    ("blk.0.attn_v", "Q5_K"),
    ("blk.0.attn_output", "IQ4_NL"),
    ("blk.0.ffn_gate", "Q5_1"),
    ("blk.0.ffn_up", "Q8_1"),
    ("blk.0.ffn_down", "TQ1_0"),
    ("blk.1.attn_q", "IQ2_XXS"),
    ("blk.1.attn_k", "IQ1_S"),
    ("blk.1.attn_v", "IQ3_XXS"),
    ("blk.1.attn_output", "IQ4_XS"),
    ("blk.1.ffn_gate", "IQ1_M"),
    ("blk.1.ffn_up", "IQ2_S"),
    ("blk.1.ffn_down", "MXFP4"),
    ("", "Q8_K"),
];

/// Rows per wave: for the kernels of one row, of few rows, and of prompts.
const CHUNKS: [usize; 3] = [1, 4, 0];

/// Maximum divergence: both round activations to 8 bits with their own blocks' sums, or the GPU does not round.
const MOST: f64 = 2e-3;

fn shape() -> SynthShape {
    SynthShape {
        layers: 2,
        embedding: 256,
        feed_forward: 512,
        heads: 4,
        kv_heads: 2,
        key_length: Some(64),
        context: 512,
        ..SynthShape::default()
    }
}

fn loaded(mix: Mix, options: &EngineOptions) -> (Engine, ModelId) {
    let mut engine = Engine::new(options).unwrap();
    let model = engine.load(mixed(&shape(), mix), &LoadOptions::default()).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn agrees(name: &str, mix: Mix) {
    let tokens: Vec<u32> = (0..24).map(|i| (i * 7 + 3) % 250).collect();
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let (mut cpu, model) = loaded(mix, &EngineOptions::default());
    let wanted = logits(&mut cpu, model, &tokens, &positions, 0);
    for plain in PATHS {
        let (mut engine, model) = loaded(mix, &on_gpu(plain));
        for chunk in CHUNKS {
            let found = logits(&mut engine, model, &tokens, &positions, chunk);
            let each = wanted.iter().zip(&found).map(|(wanted, found)| divergence(wanted, found));
            let most = each.fold(0.0, f64::max);
            println!("{name}, plain {plain}, {chunk} at a time: KL {most:.2e} at most");
            assert!(most < MOST, "{name}, plain {plain}, {chunk} at a time: KL {most:.2e}");
        }
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn four_bits_with_six_where_they_matter() {
    agrees("Q4_K_M", Q4_K_M);
}

#[test]
fn every_layout_in_one_model() {
    agrees("others", OTHERS);
}
