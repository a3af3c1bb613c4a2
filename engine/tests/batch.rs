//! Sessions that share waves: each says what it says alone, to the last bit of its logits.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{golden, golden_json, ids, loaded, logits, smollm2, told};
use std::path::Path;
use weft::{Engine, FinishReason, GenerateOptions, KeepLogits, ModelId, SessionId};

const SESSIONS: usize = 16;
const GENERATED: usize = 24;

/// Sixteen prompts of different lengths.
fn prompts(vocabulary: usize, base: &[u32]) -> Vec<Vec<u32>> {
    (0..SESSIONS)
        .map(|n| {
            let length = 3 + (n * 7) % 40;
            (0..length)
                .map(|i| (base[(i * (n + 1)) % base.len()] as usize + n * 31 + i) as u32 % vocabulary as u32)
                .collect()
        })
        .collect()
}

fn start(engine: &mut Engine, model: ModelId, prompt: &[u32], chunk: usize) -> SessionId {
    let session = told(engine, model, prompt);
    let options = GenerateOptions {
        max_tokens: Some(GENERATED),
        ignore_end: true,
        prefill_chunk: chunk,
        ..GenerateOptions::default()
    };
    engine.generate(session, &options).unwrap();
    session
}

/// What a session says alone: its tokens, and the logits at every position of prompt and answer.
fn alone(engine: &mut Engine, model: ModelId, prompt: &[u32]) -> (Vec<u32>, Vec<Vec<f32>>) {
    let session = start(engine, model, prompt, 0);
    assert_eq!(engine.wait(session).unwrap(), FinishReason::MaxTokens);
    let tokens = engine.output(session).unwrap().tokens.clone();
    engine.close(session);
    let whole: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
    let positions: Vec<usize> = (0..whole.len()).collect();
    (tokens, logits(engine, model, &whole, &positions, 0))
}

fn sixteen_sessions_say_what_they_say_alone(path: &Path, base: &[u32]) {
    let (mut engine, model) = loaded(path);
    let prompts = prompts(engine.config(model).unwrap().vocabulary, base);
    let expected: Vec<_> = prompts.iter().map(|prompt| alone(&mut engine, model, prompt)).collect();
    for chunk in [1, 7, 512] {
        // Each joins two ticks after the one before; half of them decode while the others are still being told.
        let mut sessions = Vec::new();
        for prompt in &prompts {
            sessions.push(start(&mut engine, model, prompt, chunk));
            engine.tick();
            engine.tick();
        }
        for (n, session) in sessions.iter().enumerate() {
            engine.wait(*session).unwrap();
            assert_eq!(
                engine.output(*session).unwrap().tokens,
                expected[n].0,
                "session {n}, chunks of {chunk}"
            );
            engine.close(*session);
        }
        // The same again for logits: all sixteen in one wave, the answers as part of what they are told.
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
fn on_the_real_model() {
    let base = ids(&golden_json("smollm2/prompt4.json")["tokens"]);
    sixteen_sessions_say_what_they_say_alone(&smollm2(), &base);
}

#[test]
fn decoding_rows_give_the_logits_of_a_whole_prompt() {
    // The tokens that a session generated one by one, told to another at once: same bits, since chunks do not show.
    let base = ids(&golden_json("tiny/tiny-mistral.json")["tokens"]);
    let (mut engine, model) = loaded(&golden("tiny/tiny-mistral.gguf"));
    let (_, whole) = alone(&mut engine, model, &base);
    let tokens: Vec<u32> = base.clone();
    let one_by_one = logits(&mut engine, model, &tokens, &(0..tokens.len()).collect::<Vec<_>>(), 1);
    for (position, (a, b)) in one_by_one.iter().zip(&whole).enumerate() {
        assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "position {position}");
    }
}
