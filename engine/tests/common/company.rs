//! Sixteen sessions that share waves: their prompts and their answers.

use super::told;
use weft::{Engine, GenerateOptions, ModelId, SessionId};

pub const SESSIONS: usize = 16;
pub const GENERATED: usize = 24;

/// Sixteen prompts of different lengths.
pub fn prompts(vocabulary: usize, base: &[u32]) -> Vec<Vec<u32>> {
    (0..SESSIONS)
        .map(|n| {
            let length = 3 + (n * 7) % 40;
            (0..length)
                .map(|i| (base[(i * (n + 1)) % base.len()] as usize + n * 31 + i) as u32 % vocabulary as u32)
                .collect()
        })
        .collect()
}

/// Starts an answer of [`GENERATED`] tokens to a prompt that is prefilled in chunks.
pub fn start(engine: &mut Engine, model: ModelId, prompt: &[u32], chunk: usize) -> SessionId {
    start_with(engine, model, prompt, &GenerateOptions { prefill_chunk: chunk, ..asked() })
}

/// Options for a greedy answer of [`GENERATED`] tokens.
pub fn asked() -> GenerateOptions {
    GenerateOptions { max_tokens: Some(GENERATED), ignore_end: true, ..GenerateOptions::default() }
}

/// Starts an answer to a prompt.
pub fn start_with(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    options: &GenerateOptions,
) -> SessionId {
    let session = told(engine, model, prompt);
    engine.generate(session, options).expect("a request");
    session
}

/// The answer of a session that runs alone.
pub fn says_alone(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    options: &GenerateOptions,
) -> Vec<u32> {
    let session = start_with(engine, model, prompt, options);
    end(engine, session)
}

/// Starts each session two ticks after the previous one, so that half of them decode while the others are prefilled.
pub fn join(
    engine: &mut Engine,
    model: ModelId,
    prompts: &[Vec<u32>],
    options: impl Fn(usize) -> GenerateOptions,
) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for (n, prompt) in prompts.iter().enumerate() {
        sessions.push(start_with(engine, model, prompt, &options(n)));
        engine.tick();
        engine.tick();
    }
    sessions
}

/// Waits for a session to end, closes it, and returns its answer.
pub fn end(engine: &mut Engine, session: SessionId) -> Vec<u32> {
    engine.wait(session).expect("an end");
    let tokens = engine.output(session).expect("output").tokens.clone();
    engine.close(session);
    tokens
}

/// The answers of sessions that are started one after another.
pub fn say_together(
    engine: &mut Engine,
    model: ModelId,
    prompts: &[Vec<u32>],
    options: impl Fn(usize) -> GenerateOptions,
) -> Vec<Vec<u32>> {
    let sessions = join(engine, model, prompts, options);
    sessions.into_iter().map(|session| end(engine, session)).collect()
}
