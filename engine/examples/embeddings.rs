//! Embeddings: which of three sentences is closest to a question. Any model gives embeddings; one that was trained for them
//! gives useful ones.
//!
//! `cargo run --release -p weft --example embeddings -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the table is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::{EmbedOptions, Engine, EngineOptions, LoadOptions, Prompt, SpecialTokens};

/// Without an argument: a tiny model of random weights, whose embeddings mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

const QUESTION: &str = "How do plants make food?";
/// What to compare the question with.
pub const SENTENCES: [&str; 3] = [
    "Leaves turn light, water and carbon dioxide into sugar.",
    "The train leaves the station at noon.",
    "A sonnet has fourteen lines.",
];

/// Embeds the question and the sentences, and returns how close each sentence is, best first, one a line.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    let model = engine.load(model, &LoadOptions::default())?;
    let texts = std::iter::once(QUESTION).chain(SENTENCES);
    let texts: Vec<Prompt> =
        texts.map(|text| Prompt::Text { text: text.to_owned(), special: SpecialTokens::AsText }).collect();
    // Pooling is as the model's file says. Vectors have length 1, so their dot product is the cosine of the angle between them.
    let embeddings = engine.embed(model, &texts, &EmbedOptions::default())?;
    let vector = |text: usize| embeddings.get(text).and_then(|embedding| embedding.vectors.first());
    let question = vector(0).ok_or("the question has no embedding")?;
    let mut close = Vec::new();
    for (index, sentence) in SENTENCES.into_iter().enumerate() {
        let vector = vector(index + 1).ok_or("a sentence has no embedding")?;
        let cosine: f32 = question.iter().zip(vector).map(|(a, b)| a * b).sum();
        close.push((cosine, sentence));
    }
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    let lines: Vec<String> = close.iter().map(|(cosine, text)| format!("{cosine:.4} {text}")).collect();
    let table = lines.join("\n");
    println!("{QUESTION}\n{table}");
    Ok(table)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
