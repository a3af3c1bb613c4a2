//! Sessions that share waves: each generates what it generates alone, with bit-identical logits.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::company::{asked, prompts, say_together, says_alone};
use crate::common::{golden, golden_json, ids, loaded, logits, smollm2, told};
use std::path::Path;
use weft::{Engine, GenerateOptions, KeepLogits, ModelId, SessionId};

/// Runs a session alone. Returns its tokens, and the logits at every position of prompt and answer.
fn alone(engine: &mut Engine, model: ModelId, prompt: &[u32]) -> (Vec<u32>, Vec<Vec<f32>>) {
    let tokens = says_alone(engine, model, prompt, &asked());
    let whole: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
    let positions: Vec<usize> = (0..whole.len()).collect();
    (tokens, logits(engine, model, &whole, &positions, 0))
}

fn sixteen_sessions_say_what_they_say_alone(path: &Path, base: &[u32]) {
    let (mut engine, model) = loaded(path);
    let prompts = prompts(engine.config(model).unwrap().vocabulary, base);
    let expected: Vec<_> = prompts.iter().map(|prompt| alone(&mut engine, model, prompt)).collect();
    for chunk in [1, 7, 512] {
        let options = |_| GenerateOptions { prefill_chunk: chunk, ..asked() };
        let said = say_together(&mut engine, model, &prompts, options);
        for (n, (said, (expected, _))) in said.iter().zip(&expected).enumerate() {
            assert_eq!(said, expected, "session {n}, chunks of {chunk}");
        }
        // The same for logits: all sixteen sessions in one wave, with the answers as part of their prompts.
        let asked: Vec<SessionId> = prompts
            .iter()
            .zip(&expected)
            .map(|(prompt, (answer, _))| {
                let whole: Vec<u32> = prompt.iter().chain(answer).copied().collect();
                let session = told(&mut engine, model, &whole);
                engine.ask_logits(session, (0..whole.len()).collect(), KeepLogits::Row, chunk).unwrap();
                engine.tick();
                session
            })
            .collect();
        for (n, session) in asked.into_iter().enumerate() {
            engine.wait(session).unwrap();
            let found = engine.take_logits(session).unwrap().rows;
            engine.close(session);
            let same = found.len() == expected[n].1.len()
                && found
                    .iter()
                    .zip(&expected[n].1)
                    .all(|(a, b)| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert!(same, "logits of session {n} differ, chunks of {chunk}");
        }
    }
}

#[test]
fn on_a_tiny_model() {
    let base = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    sixteen_sessions_say_what_they_say_alone(&golden("tiny/tiny-llama.gguf"), &base);
}

#[test]
fn with_experts_windows_and_ternary_matrices() {
    for name in ["tiny-qwen2moe", "tiny-qwen3moe", "tiny-gemma3", "tiny-bitnet"] {
        let base = ids(&golden_json(&format!("tiny/{name}.json"))["tokens"]);
        sixteen_sessions_say_what_they_say_alone(&golden(&format!("tiny/{name}.gguf")), &base);
    }
}

#[test]
fn on_the_real_model() {
    let base = ids(&golden_json("smollm2/prompt4.json")["tokens"]);
    sixteen_sessions_say_what_they_say_alone(&smollm2(), &base);
}

#[test]
fn decoding_rows_give_the_logits_of_a_whole_prompt() {
    // Token by token or in one wave, the logits are the same bits, since chunking does not change them.
    let base = ids(&golden_json("tiny/tiny-mistral.json")["tokens"]);
    let (mut engine, model) = loaded(&golden("tiny/tiny-mistral.gguf"));
    let (_, whole) = alone(&mut engine, model, &base);
    let tokens: Vec<u32> = base.clone();
    let one_by_one = logits(&mut engine, model, &tokens, &(0..tokens.len()).collect::<Vec<_>>(), 1);
    for (position, (a, b)) in one_by_one.iter().zip(&whole).enumerate() {
        assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "position {position}");
    }
}
