//! Arguments of `weft embed`.

use super::ModelArgs;
use super::values::positive;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use weft::Pooling;

/// `weft embed`
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// The texts; `-` in their place, or none when stdin is not a terminal, reads them from stdin, one per line
    #[arg(value_name = "TEXT", conflicts_with_all = ["file", "prompt"])]
    pub(crate) texts: Vec<String>,
    /// Read the texts from a file, one per line
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A text, under the option name that other programs use
    #[arg(
        long,
        short,
        value_name = "TEXT",
        hide = true,
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    pub(crate) prompt: Option<String>,
    /// How token vectors are pooled into one vector; by default as the model file says, else the last token of a
    /// decoder or the mean of an encoder
    #[arg(long, value_enum)]
    pub(crate) pooling: Option<PoolingName>,
    /// Do not normalize the vectors to length 1
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// Maximum tokens of a text per forward pass; 0 for as many as fit
    #[arg(long, value_name = "C", default_value_t = 0)]
    pub(crate) chunk: usize,
    /// Size of the KV cache and maximum tokens of a text; by default the model's context, up to 32768
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Print {"embeddings": [[…], …], "tokens": n}; with --pooling none each embedding is a list of vectors, one per
    /// token. A refused text has the embedding null, and "errors" gives the reason
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// A pooling method.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PoolingName {
    /// No pooling: one vector per token
    None,
    /// The mean of all tokens
    Mean,
    /// The first token
    Cls,
    /// The last token
    Last,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::None => Self::None,
            PoolingName::Mean => Self::Mean,
            PoolingName::Cls => Self::Cls,
            PoolingName::Last => Self::Last,
        }
    }
}
