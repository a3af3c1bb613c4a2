//! The shortest program: load a model, ask it one question, print the answer as it comes.
//!
//! `cargo run --release -p weft --example first_answer -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Asks the model in a file, and returns its answer.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    // Returns once the header has been read. The weights arrive while the question is on its way through the first layers.
    let model = engine.load(model, &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    // Messages are rendered with the chat template in the model's file.
    engine.set_messages(session, &[Message::new("user", "Name three fruits.")])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;
    let mut answer = String::new();
    while let Some(piece) = engine.next_piece(session)? {
        print!("{piece}");
        std::io::stdout().flush()?;
        answer.push_str(&piece);
    }
    println!();
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
