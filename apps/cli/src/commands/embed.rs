//! `weft embed`: prints the embeddings of texts.
//!
//! A text without an embedding, because it is empty or too long, does not stop the others: its place is `null` or an
//! empty line, and the error names it. The command then exits with 1.

use crate::args::EmbedArgs;
use crate::error::CliError;
use crate::host::{Host, HostOptions};
use crate::style::Style;
use crate::{input, output};
use serde::Serialize;
use serde_json::Value;
use weft::{EmbedOptions, Embedding, Pooling, Prompt, SpecialTokens};

/// The argument that stands for the texts on stdin.
const STDIN: &str = "-";

#[derive(Serialize)]
struct Report<'a> {
    embeddings: Vec<Option<Vectors<'a>>>,
    /// Tokens of all texts.
    tokens: usize,
    /// One entry per text without an embedding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Value>,
    /// The error of the command, present if some texts have no embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

/// The vector of a text, or the vectors of its tokens.
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
    let (texts, place) = texts(args)?;
    let prompt = |text: &String| Prompt::Text { text: text.clone(), special: SpecialTokens::AsText };
    let prompts: Vec<_> = texts.iter().map(prompt).collect();
    let options = HostOptions { kv_tokens: args.context, context: args.context, ..HostOptions::default() };
    let mut host = Host::open(&args.model, isa, options)?;
    let pooling = match args.pooling {
        Some(name) => name.into(),
        None => host.engine.pooling(host.model)?,
    };
    let options =
        EmbedOptions { pooling: Some(pooling), normalize: !args.no_normalize, prefill_chunk: args.chunk };
    host.wait_loaded()?;
    let mut errors = Vec::new();
    let mut embeddings = Vec::with_capacity(prompts.len());
    for (index, embedding) in host.engine.embed_each(host.model, &prompts, &options)?.into_iter().enumerate()
    {
        embeddings.push(match embedding {
            Ok(embedding) => Some(embedding),
            Err(error) => {
                errors.push((index, host.explain(error)));
                None
            }
        });
    }
    for (index, embedding) in embeddings.iter().enumerate() {
        let Some(Embedding { tokens, left_out: left_out @ 1.., .. }) = embedding else { continue };
        let number = index + 1;
        output::note(&format!(
            "{place} {number}: its last {left_out} tokens were cut: the model folder limits texts to {tokens}"
        ));
    }
    let refused = refused(&errors, texts.len(), place);
    if args.json {
        let errors = errors.iter().map(|(index, error)| {
            let mut error = error.facts();
            error.insert("index".into(), (*index).into());
            Value::Object(error)
        });
        let done = || embeddings.iter().flatten();
        output::json(&Report {
            embeddings: embeddings
                .iter()
                .map(|one| one.as_ref().map(|one| Vectors::of(one, pooling)))
                .collect(),
            tokens: done().map(|embedding| embedding.tokens).sum(),
            errors: errors.collect(),
            error: refused.as_ref().map(|error| Value::Object(error.facts())),
        })?;
    } else {
        for embedding in &embeddings {
            let rows = embedding.iter().flat_map(|embedding| &embedding.vectors);
            let lines = rows.map(|row| row.iter().map(f32::to_string).collect::<Vec<_>>().join(" "));
            output::line(&lines.collect::<Vec<_>>().join("\n"))?;
        }
    }
    let heading = Style::stderr().red("error:");
    for (index, error) in &errors {
        output::note(&format!("{heading} {place} {}: {error}", index + 1));
    }
    refused.map_or(Ok(()), |error| Err(CliError::Told { source: Box::new(error) }))
}

/// Returns the texts, and the word for their positions, such as `line`.
fn texts(args: &EmbedArgs) -> Result<(Vec<String>, &'static str), CliError> {
    let lines = |text: &str| input::unmarked(text).lines().map(str::to_owned).collect::<Vec<_>>();
    if let Some(file) = &args.file {
        return Ok((lines(&input::file(file)?), "line"));
    }
    let given: Vec<&str> = args.prompt.iter().chain(&args.texts).map(String::as_str).collect();
    if given == [STDIN] {
        return Ok((lines(&input::stdin()?), "line"));
    }
    if !given.is_empty() {
        let mut texts = Vec::new();
        for text in given {
            match text {
                STDIN => texts.extend(lines(&input::stdin()?)),
                text => texts.push(text.to_owned()),
            }
        }
        return Ok((texts, "text"));
    }
    match input::piped()?.map(|text| lines(&text)) {
        Some(texts) if !texts.is_empty() => Ok((texts, "line")),
        _ => Err(CliError::usage("give texts: `weft embed \"TEXT\"`, --file, or lines on stdin")),
    }
}

/// Returns the error of the texts without an embedding, if there are any.
fn refused(errors: &[(usize, CliError)], texts: usize, place: &str) -> Option<CliError> {
    let (index, error) = errors.first()?;
    let first = format!("{place} {}: {error}", index + 1);
    Some(CliError::TextsRefused { refused: errors.len(), texts, first })
}
