//! The Weft engine for JavaScript: the same crates, compiled to wasm32.
//!
//! Supports greedy answers only, to check that the build gives the reference's tokens on the CPU and on the browser's
//! GPU. The worker and its API come with the browser front end. Nothing here blocks: the engine's ticks are driven one
//! by one.

mod gpu;
mod rest;

pub use gpu::{GpuAnswer, GpuEngine};

use wasm_bindgen::prelude::*;
use weft::{
    Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, ModelSource, Phase, Prompt, SessionId,
    SessionOptions, TickOutcome,
};

/// Returns the `count` most likely tokens after `tokens`, decoded greedily by the model in `gguf`.
///
/// # Errors
/// Any error of the engine, as an `Error` with its message.
#[wasm_bindgen]
pub fn greedy(gguf: Vec<u8>, tokens: Vec<u32>, count: usize) -> Result<Vec<u32>, JsError> {
    run(gguf, tokens, count).map_err(|error| JsError::new(&error.to_string()))
}

fn run(gguf: Vec<u8>, tokens: Vec<u32>, count: usize) -> Result<Vec<u32>, weft::Error> {
    let mut engine = Engine::new(&options())?;
    let model = load(&mut engine, gguf, &LoadOptions::default())?;
    let session = ask(&mut engine, model, tokens, count)?;
    while !matches!(engine.phase(session)?, Phase::Finished(_)) {
        if engine.tick() == TickOutcome::Idle {
            break;
        }
    }
    engine.progress(model)?;
    Ok(engine.output(session)?.tokens.clone())
}

/// Options with one thread, the caller's.
fn options() -> EngineOptions {
    EngineOptions { threads: 1, ..EngineOptions::default() }
}

/// Begins to load a model.
fn load(engine: &mut Engine, gguf: Vec<u8>, options: &LoadOptions) -> Result<ModelId, weft::Error> {
    engine.load(ModelSource::memory("model.gguf", gguf), options)
}

/// Requests the `count` most likely tokens after `tokens` from a model.
fn ask(
    engine: &mut Engine,
    model: ModelId,
    tokens: Vec<u32>,
    count: usize,
) -> Result<SessionId, weft::Error> {
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.append(session, Prompt::Tokens(tokens))?;
    let options = GenerateOptions { max_tokens: Some(count), ignore_end: true, ..GenerateOptions::default() };
    engine.generate(session, &options)?;
    Ok(session)
}
