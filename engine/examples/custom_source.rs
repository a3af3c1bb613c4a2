//! A source of one's own: the model lies scrambled on disk, and is unscrambled as it is read, never as a whole. The scrambling
//! shows where a cipher would go; it keeps no secret.
//!
//! `cargo run --release -p weft --example custom_source -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use weft::storage::{FileSource, Source, StorageError};
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, ModelSource, SessionOptions};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Changes bytes that lie at `offset`, and changes them back.
fn scramble(offset: u64, bytes: &mut [u8]) {
    const KEY: &[u8] = b"not a secret";
    let first = (offset % KEY.len() as u64) as usize;
    for (byte, key) in bytes.iter_mut().zip(KEY.iter().cycle().skip(first)) {
        *byte ^= key;
    }
}

/// A source whose bytes are scrambled where they lie. The loader's threads read pieces of it, in any order, at the same time.
struct Scrambled<S>(S);

impl<S: Source> Source for Scrambled<S> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    /// The only method that a source has to have: fills the front of a buffer and says how much of it. It may be
    /// [`Poll::Pending`] where bytes are still under way, if [`Source::is_polled`] says so.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        let read = ready!(self.0.poll_read(cx, offset, buffer))?;
        if let Some(bytes) = buffer.get_mut(..read) {
            scramble(offset, bytes);
        }
        Poll::Ready(Ok(read))
    }

    fn is_polled(&self) -> bool {
        self.0.is_polled()
    }
}

/// Writes a scrambled copy of a file.
fn write_scrambled(from: &Path, to: &mut impl Write) -> std::io::Result<()> {
    let mut file = std::fs::File::open(from)?;
    let (mut buffer, mut offset) = (vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return to.flush();
        }
        scramble(offset, &mut buffer[..read]);
        to.write_all(&buffer[..read])?;
        offset += read as u64;
    }
}

/// Scrambles the model in a file, asks it where it lies, and returns its answer.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut scrambled = tempfile::NamedTempFile::new()?;
    write_scrambled(model, &mut scrambled)?;
    let source = Scrambled(FileSource::open(scrambled.path())?);

    let mut engine = Engine::new(&EngineOptions::default())?;
    // A model may consist of several files; this one is whole.
    let source = ModelSource::Parts(vec![Arc::new(source)]);
    let model = engine.load(source, &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.set_messages(session, &[Message::new("user", "Name three fruits.")])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;
    engine.wait(session)?;
    let answer = engine.output(session)?.text.clone();
    println!("{answer}");
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
