//! Measures the speed of tokenizing: `cargo run --release -p weft-formats --example tokenizers -- FILE.gguf TEXT ...`
//! prints, for each text, megabytes per second, the median of the runs of two seconds. `benches/tokenizers.py` compares
//! them with llama.cpp's.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};
use weft_formats::gguf::{Gguf, open_files};
use weft_formats::text_parts;
use weft_text::SpecialTokens;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let vocabulary = arguments.next().ok_or("name a GGUF file and texts")?;
    let gguf = Gguf::read(&open_files(Path::new(&vocabulary))?)?;
    let tokenizer = text_parts(&gguf, None)?.0.ok_or("the file has no vocabulary")?;
    for path in arguments {
        let text = std::fs::read_to_string(&path)?;
        let mut times = Vec::new();
        let begin = Instant::now();
        let mut tokens = 0;
        while times.len() < 3 || begin.elapsed() < Duration::from_secs(2) {
            let start = Instant::now();
            tokens = tokenizer.encode(&text, SpecialTokens::AsText, false)?.len();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64();
        println!("{path} {tokens} tokens {:.2} MB/s", text.len() as f64 / 1e6 / median);
    }
    Ok(())
}
