//! An answer as a `Stream`, for async programs. Any executor drives it; this program brings a minimal one of its own.
//!
//! `cargo run --release -p weft --example stream -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use futures_core::Stream;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use weft::{EngineHandle, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A whole executor: polls one future, and parks the thread until the engine wakes it.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Asks the model in a file, and returns its answer.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let engine = EngineHandle::new(&EngineOptions::default())?;
    let model = engine.load(model, &LoadOptions::default())?;
    block_on(async {
        // `submit` is the async form of every call: a closure for the engine's thread, and a future for its result.
        let opened = engine.submit(move |engine| engine.open_session(model, &SessionOptions::default()));
        let session = opened.await??;
        engine.set_messages(session, &[Message::new("user", "Name three fruits.")])?;
        let options = GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() };
        let mut answer = engine.generate(session, &options)?;
        let mut text = String::new();
        // With the `futures` crate this line is `while let Some(piece) = answer.next().await`.
        while let Some(piece) = poll_fn(|context| Pin::new(&mut answer).poll_next(context)).await {
            let piece = piece?;
            print!("{piece}");
            text.push_str(&piece);
        }
        println!();
        Ok(text)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
