//! One beginning, several ways on: a session is forked and its forks answer other questions, and a snapshot of it goes on in
//! another engine. What they have in common is computed once.
//!
//! `cargo run --release -p weft --example branches -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// What all questions are about.
pub const TOPIC: &str = "Think of a town with a harbour, a market and an old lighthouse.";
/// The questions.
pub const QUESTIONS: [&str; 3] = ["What is sold there?", "Who lives there?", "When was it built?"];

/// The messages of a question.
pub fn messages(question: &str) -> [Message; 2] {
    [Message::new("system", TOPIC), Message::new("user", question)]
}

/// Asks the model in a file all questions. Returns the answers, and that of the first as another engine goes on with it.
pub fn run(model: &Path) -> Result<(Vec<String>, String), Box<dyn Error>> {
    let short = GenerateOptions { max_tokens: Some(24), ..GenerateOptions::default() };
    let mut engine = Engine::new(&EngineOptions::default())?;
    let file = model;
    let model = engine.load(file, &LoadOptions::default())?;
    let first = engine.open_session(model, &SessionOptions::default())?;
    engine.set_messages(first, &messages(QUESTIONS[0]))?;
    engine.generate(first, &short)?;
    engine.wait(first)?;
    let mut sessions = vec![first];
    for question in &QUESTIONS[1..] {
        // The fork has the tokens and the pages of the first session, and keeps those that its own messages begin with.
        let fork = engine.fork(first)?;
        engine.set_messages(fork, &messages(question))?;
        engine.generate(fork, &short)?;
        sessions.push(fork);
    }
    let mut answers = Vec::new();
    for (session, question) in sessions.into_iter().zip(QUESTIONS) {
        engine.wait(session)?;
        let answer = engine.output(session)?.text.clone();
        println!("{question} {}", answer.trim());
        answers.push(answer);
    }
    let stats = engine.prefix_stats(model)?;
    println!("{} tokens computed, {} shared", stats.prefilled_tokens, stats.reused_tokens);

    // A request that is stopped halfway, and goes on in another engine, here of the same program.
    engine.set_messages(first, &messages(QUESTIONS[0]))?;
    engine.generate(first, &short)?;
    while engine.output(first)?.tokens.len() < 12 && engine.phase(first)?.is_active() {
        engine.tick();
    }
    let bytes = engine.snapshot(first, true)?;
    let mut other = Engine::new(&EngineOptions::default())?;
    let model = other.load(file, &LoadOptions::default())?;
    other.wait_loaded(model)?;
    let restored = other.restore(model, &bytes)?;
    if other.phase(restored)?.is_active() {
        other.wait(restored)?;
    }
    let gone_on = other.output(restored)?.text.clone();
    println!("a snapshot of {} bytes went on: {}", bytes.len(), gone_on.trim());
    Ok((answers, gone_on))
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| PathBuf::from(TINY), PathBuf::from);
    run(&model).map(|_| ())
}
