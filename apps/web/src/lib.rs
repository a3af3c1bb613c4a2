//! The Weft engine for JavaScript: the same crates, compiled to wasm32.
//!
//! One call so far, for checking that the build gives the reference's tokens; the worker and its API come with the
//! browser front end. Nothing here waits: the engine's ticks are driven one by one.

use wasm_bindgen::prelude::*;
use weft::{
    Engine, EngineOptions, GenerateOptions, LoadOptions, ModelSource, Phase, Prompt, SessionOptions,
    TickOutcome,
};

/// The `count` most likely tokens after `tokens`, one by one, on the model in `gguf`.
///
/// # Errors
/// Whatever the engine refuses, as an `Error` with its message.
#[wasm_bindgen]
pub fn greedy(gguf: Vec<u8>, tokens: Vec<u32>, count: usize) -> Result<Vec<u32>, JsError> {
    run(gguf, tokens, count).map_err(|error| JsError::new(&error.to_string()))
}

fn run(gguf: Vec<u8>, tokens: Vec<u32>, count: usize) -> Result<Vec<u32>, weft::Error> {
    let mut engine = Engine::new(&EngineOptions { threads: 1, ..EngineOptions::default() })?;
    let model = engine.load(ModelSource::memory("model.gguf", gguf), &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.append(session, Prompt::Tokens(tokens))?;
    let options = GenerateOptions { max_tokens: Some(count), ignore_end: true, ..GenerateOptions::default() };
    engine.generate(session, &options)?;
    while !matches!(engine.phase(session)?, Phase::Finished(_)) {
        if engine.tick() == TickOutcome::Idle {
            break;
        }
    }
    engine.progress(model)?;
    Ok(engine.output(session)?.tokens.clone())
}
