//! The engine on a thread of its own, used from several threads: answers that are waited for, a callback, a command of one's
//! own, and a condition to wait for. Nothing polls: while nobody asks, the engine's thread sleeps.
//!
//! `cargo run --release -p weft --example engine_thread -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use weft::{
    Answer, EngineHandle, EngineOptions, GenerateOptions, LoadOptions, Message, ModelId, SessionOptions,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

fn ask(engine: &EngineHandle, model: ModelId, question: &str) -> Result<Answer, weft::Error> {
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.set_messages(session, &[Message::new("user", question)])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })
}

/// Asks the model in a file from several threads, and returns the answers, one a line.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let engine = EngineHandle::new(&EngineOptions::default())?;
    let model = engine.load(model, &LoadOptions::default())?;

    // A condition, looked at after every tick. This one is what `wait_loaded` waits for.
    let loaded = engine.when(move |engine| match engine.progress(model) {
        Ok(progress) => progress.is_complete().then_some(Ok(progress.bytes)),
        Err(error) => Some(Err(error)),
    });

    // A callback gets the pieces on a thread of its own. `Break` would cancel the request.
    let (sender, pieces) = channel();
    let thread = ask(&engine, model, "Name three fruits.")?.on_piece(move |piece| {
        let sent = sender.send(piece.to_owned());
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;

    // An answer is an iterator, for a thread that may wait. Dropping it early would cancel the request.
    let other = engine.clone();
    let waiting = std::thread::spawn(move || ask(&other, model, "Name three rivers.")?.text());

    let mut answers = vec![pieces.into_iter().collect::<String>()];
    answers.push(waiting.join().map_err(|_| "the thread panicked")??);
    let reason = thread.join().map_err(|_| "the callback panicked")??;

    // A command runs between two ticks, with the whole engine.
    let hidden = engine.call(move |engine| engine.config(model).map(|config| config.embedding))??;
    println!("{} bytes of weights, {hidden} wide; the first answer ended with {reason:?}", loaded.wait()??);
    let answers = answers.join("\n");
    println!("{answers}");
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
