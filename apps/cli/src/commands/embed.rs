//! `weft embed`: the embeddings of texts.

use crate::args::EmbedArgs;
use crate::host::{Host, HostOptions};
use crate::report::CliError;
use crate::{input, output};
use serde::Serialize;
use weft::{EmbedOptions, Embedding, Pooling, Prompt, SpecialTokens};

#[derive(Serialize)]
struct Report<'a> {
    embeddings: Vec<Vectors<'a>>,
    /// Of all texts.
    tokens: usize,
}

/// A text's vector, or those of its tokens.
#[derive(Serialize)]
#[serde(untagged)]
enum Vectors<'a> {
    One(&'a [f32]),
    Each(&'a [Vec<f32>]),
}

impl<'a> Vectors<'a> {
    fn of(embedding: &'a Embedding, pooling: Pooling) -> Self {
        match &embedding.vectors[..] {
            [one] if pooling != Pooling::None => Self::One(one),
            each => Self::Each(each),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &EmbedArgs, isa: Option<&str>) -> Result<(), CliError> {
    let texts = match &args.file {
        Some(path) => input::file(path)?.lines().map(str::to_owned).collect(),
        None => args.texts.clone(),
    };
    let prompt = |text| Prompt::Text { text, special: SpecialTokens::AsText };
    let prompts: Vec<_> = texts.into_iter().map(prompt).collect();
    let mut host = Host::open(&args.model, isa, HostOptions::default())?;
    let pooling = match args.pooling {
        Some(name) => name.into(),
        None => host.engine.pooling(host.model)?,
    };
    let options =
        EmbedOptions { pooling: Some(pooling), normalize: !args.no_normalize, prefill_chunk: args.chunk };
    host.wait_loaded()?;
    let embeddings = host.engine.embed(host.model, &prompts, &options)?;
    for (at, embedding) in embeddings.iter().enumerate().filter(|(_, embedding)| embedding.left_out > 0) {
        let Embedding { tokens, left_out, .. } = embedding;
        let number = at + 1;
        output::note(&format!(
            "text {number}: its last {left_out} tokens were left out: the folder limits texts to {tokens}"
        ));
    }
    if args.json {
        return output::json(&Report {
            embeddings: embeddings.iter().map(|embedding| Vectors::of(embedding, pooling)).collect(),
            tokens: embeddings.iter().map(|embedding| embedding.tokens).sum(),
        });
    }
    for row in embeddings.iter().flat_map(|embedding| &embedding.vectors) {
        let values: Vec<String> = row.iter().map(f32::to_string).collect();
        output::line(&values.join(" "))?;
    }
    Ok(())
}
