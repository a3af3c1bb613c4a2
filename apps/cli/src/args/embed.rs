//! The arguments of `weft embed`.

use super::ModelArgs;
use super::values::positive;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use weft::Pooling;

/// `weft embed`
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Texts; `-`, or none where stdin is no terminal, reads them from stdin, one a line, in its place
    #[arg(value_name = "TEXT", conflicts_with_all = ["file", "prompt"])]
    pub(crate) texts: Vec<String>,
    /// Texts from a file, one a line
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A text, as other programs call it
    #[arg(
        long,
        short,
        value_name = "TEXT",
        hide = true,
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    pub(crate) prompt: Option<String>,
    /// How the tokens' vectors become the text's; without it, as the model's file says, else the last of a
    /// decoder and the mean of an encoder
    #[arg(long, value_enum)]
    pub(crate) pooling: Option<PoolingName>,
    /// Leave vectors as long as they are, instead of dividing them by their length
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// Most tokens of a text that pass through the model together; 0 for as many as fit
    #[arg(long, value_name = "C", default_value_t = 0)]
    pub(crate) chunk: usize,
    /// Tokens that the KV cache holds, and most tokens of a text; without it, what the model was made for, up
    /// to 32768
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Print {"embeddings": [[…], …], "tokens": n}; with --pooling none each is a list of vectors, one a token.
    /// Where texts are refused, their embeddings are null and "errors" says why
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// A way of pooling.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PoolingName {
    /// None: a vector a token
    None,
    /// The mean of all
    Mean,
    /// The first
    Cls,
    /// The last
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
