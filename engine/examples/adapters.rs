//! A LoRA adapter beside its model: two sessions answer the same prompt together, one with the adapter and one without. The
//! model's weights are in memory once.
//!
//! `cargo run --release -p weft --example adapters -- MODEL.gguf ADAPTER`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::{Engine, EngineOptions, FinishReason, GenerateOptions, LoadOptions, Prompt, SessionOptions};

/// Without arguments: a tiny model of random weights and an adapter for it, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/hf/llama.gguf");
const TINY_ADAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/lora/llama-all.gguf");

/// Continues a few tokens with and without the adapter, and returns both answers as token ids.
pub fn run(model: &Path, adapter: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    let model = engine.load(model, &LoadOptions::default())?;
    // A GGUF file, or a folder that PEFT saved.
    let adapter = engine.load_adapter(model, adapter)?;
    let mut sessions = Vec::new();
    for used in [None, Some(adapter)] {
        let session = engine.open_session(model, &SessionOptions::default())?;
        // The scale weights what the adapter adds; 1 is what it was trained with.
        engine.set_adapter(session, used, 1.0)?;
        engine.append(session, Prompt::Tokens(vec![81, 109, 62, 34, 76, 58]))?;
        let options =
            GenerateOptions { max_tokens: Some(16), ignore_end: true, ..GenerateOptions::default() };
        engine.generate(session, &options)?;
        sessions.push(session);
    }
    let mut answers = Vec::new();
    for (session, name) in sessions.into_iter().zip(["plain", "adapted"]) {
        let reason = engine.wait(session)?;
        if reason != FinishReason::MaxTokens {
            return Err(format!("{name}: ended with {reason:?}").into());
        }
        answers.push(format!("{name}: {:?}", engine.output(session)?.tokens));
    }
    let answers = answers.join("\n");
    println!("{answers}");
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let model = arguments.next().unwrap_or_else(|| TINY.into());
    let adapter = arguments.next().unwrap_or_else(|| TINY_ADAPTER.into());
    run(&model, &adapter).map(|_| ())
}
