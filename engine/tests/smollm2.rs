//! SmolLM2-135M-Instruct, the real model, against llama.cpp and against exact activations.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

mod common;

use common::{
    argmax, divergence, gaps, golden, golden_floats, golden_json, ids, loaded, logits, smollm2, told,
};
use weft::{GenerateOptions, KeepLogits, Message, Prompt, SessionOptions, SpecialTokens};

/// Below this gap between its two best logits the reference's own rounding may flip its argmax.
const CLEAR: f64 = 0.25;
/// What quantizing activations to 8 bits costs llama.cpp over the same rows.
const PEER_DIVERGENCE: f64 = 5.2e-3;
/// llama.cpp's perplexity of the licence text, and how near ours must be.
const PERPLEXITY: f64 = 15.93;
const PERPLEXITY_TOLERANCE: f64 = 0.01;

const PROMPTS: [usize; 4] = [1, 2, 3, 4];

#[test]
fn prompts_have_the_reference_ids() {
    let (engine, model) = loaded(&smollm2());
    for n in PROMPTS {
        let reference = golden_json(&format!("smollm2/prompt{n}.json"));
        let text = reference["text"].as_str().unwrap();
        let tokens = engine.tokenizer(model).unwrap().encode(text, SpecialTokens::Parse, true).unwrap();
        assert_eq!(tokens, ids(&reference["tokens"]), "prompt {n}");
        let user =
            text.split("<|im_start|>user\n").nth(1).and_then(|t| t.split("<|im_end|>").next()).unwrap();
        assert_eq!(
            engine.render(model, &[Message::new("user", user)], true).unwrap(),
            text,
            "template of prompt {n}"
        );
    }
}

#[test]
fn texts_are_the_reference_texts() {
    let (mut engine, model) = loaded(&smollm2());
    for n in PROMPTS {
        let reference = golden_json(&format!("smollm2/prompt{n}.json"));
        let (tokens, wanted) = (ids(&reference["tokens"]), ids(&reference["greedy"]));
        let gaps = gaps(&reference);
        let whole: Vec<u32> = tokens.iter().chain(&wanted).copied().collect();
        let positions: Vec<usize> = (0..wanted.len()).map(|step| tokens.len() - 1 + step).collect();
        for (step, row) in logits(&mut engine, model, &whole, &positions, 0).iter().enumerate() {
            let found = argmax(row);
            assert!(
                gaps[step] < CLEAR || found == wanted[step] as usize,
                "prompt {n}, step {step}: {found} where the reference has {} by {}",
                wanted[step],
                gaps[step]
            );
        }
        let session = engine.open_session(model, &SessionOptions::default()).unwrap();
        let text = reference["text"].as_str().unwrap().to_owned();
        engine.append(session, Prompt::Text { text, special: SpecialTokens::Parse }).unwrap();
        let options = GenerateOptions {
            max_tokens: Some(wanted.len()),
            ignore_end: true,
            ..GenerateOptions::default()
        };
        engine.generate(session, &options).unwrap();
        engine.wait(session).unwrap();
        let output = engine.output(session).unwrap().clone();
        let sure = gaps.iter().position(|gap| *gap < CLEAR).unwrap_or(wanted.len());
        assert_eq!(output.tokens[..sure], wanted[..sure], "prompt {n}: free text");
        if output.tokens == wanted {
            assert_eq!(output.text, reference["greedy_text"].as_str().unwrap(), "prompt {n}");
        }
        engine.close(session);
    }
}

#[test]
fn logits_are_as_near_to_exact_ones_as_the_peer_s() {
    let (mut engine, model) = loaded(&smollm2());
    let mut divergences = Vec::new();
    for n in PROMPTS {
        let reference = golden_json(&format!("smollm2/prompt{n}.json"));
        let (tokens, greedy) = (ids(&reference["tokens"]), ids(&reference["greedy"]));
        let exact = golden_floats(&format!("smollm2/exact-prompt{n}.f32.gz"));
        let whole: Vec<u32> = tokens.iter().chain(&greedy).copied().collect();
        let positions: Vec<usize> = [0, 8, 16, 32].iter().map(|step| tokens.len() - 1 + step).collect();
        let rows = logits(&mut engine, model, &whole, &positions, 0);
        let vocabulary = rows[0].len();
        divergences.extend(
            rows.iter().zip(exact.chunks_exact(vocabulary)).map(|(row, exact)| divergence(exact, row)),
        );
    }
    assert_eq!(divergences.len(), 16);
    let mean = divergences.iter().sum::<f64>() / 16.0;
    println!("mean KL {mean:.2e} of {divergences:?}");
    assert!(mean <= PEER_DIVERGENCE, "mean KL {mean:.2e}");
}

#[test]
fn perplexity_is_the_reference_s() {
    const CONTEXT: usize = 512;
    let (mut engine, model) = loaded(&smollm2());
    let text = std::fs::read_to_string(golden("smollm2/apache-2.0.txt")).unwrap();
    let tokens = engine.tokenizer(model).unwrap().encode(&text, SpecialTokens::AsText, true).unwrap();
    let mut losses = Vec::new();
    for chunk in tokens.chunks_exact(CONTEXT) {
        let session = told(&mut engine, model, chunk);
        let positions = (CONTEXT / 2..CONTEXT - 1).collect();
        engine.ask_logits(session, positions, KeepLogits::NextTokenLoss, 0).unwrap();
        engine.wait(session).unwrap();
        losses.extend(engine.take_logits(session).unwrap().losses);
        engine.close(session);
    }
    let perplexity = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
    println!("perplexity {perplexity:.3} over {} tokens", losses.len());
    assert!((perplexity / PERPLEXITY - 1.0).abs() < PERPLEXITY_TOLERANCE, "perplexity {perplexity}");
}
