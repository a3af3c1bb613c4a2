//! Arguments of the commands that look at what a model computes, and how fast.

use super::ModelArgs;
use super::values::{IdList, at_least_two, beside, chunk_length, positive};
use clap::Args;
use std::path::PathBuf;

/// `weft logits`
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    /// The prompt's token ids, such as 1,2,3
    #[arg(long, value_name = "IDS")]
    pub(crate) tokens: IdList,
    /// Positions whose logits are wanted, from 0; without it, the last
    #[arg(long, value_name = "POSITIONS")]
    pub(crate) positions: Option<IdList>,
    /// Most tokens of the prompt that pass through the model together; 0 for as many as fit
    #[arg(long, value_name = "C", default_value_t = 0)]
    pub(crate) chunk: usize,
    /// Other sessions that travel through the model together with this one
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = beside)]
    pub(crate) beside: usize,
    /// Tokens that the KV cache holds, over all sessions; without it, as many as the prompts take
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Print {"logits": [[…], …]}
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// `weft perplexity`
#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// The text; `-` reads it from stdin
    #[arg(long, short)]
    pub(crate) file: PathBuf,
    /// Tokens of a chunk, of which the second half is scored, and the size of the KV cache
    #[arg(long, short, value_name = "N", alias = "ctx-size", default_value_t = 512, value_parser = chunk_length)]
    pub(crate) context: usize,
    /// Print {"perplexity", "error", "tokens"}
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// `weft bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Tokens of the prompt
    #[arg(long, short, value_name = "N", alias = "n-prompt", default_value_t = 512, value_parser = positive)]
    pub(crate) prompt: usize,
    /// Tokens decoded one by one, the first of which is not timed
    #[arg(long, short = 'n', value_name = "N", alias = "n-gen", default_value_t = 128, value_parser = at_least_two)]
    pub(crate) generate: usize,
    /// Sessions that decode together, such as 1,4,16
    #[arg(long, default_value = "1,4,16", value_name = "N,…")]
    pub(crate) sessions: IdList,
    /// Timed runs, of which the median counts; one more goes before to warm up
    #[arg(long, short, value_name = "N", alias = "repetitions", default_value_t = 3, value_parser = positive)]
    pub(crate) repeat: usize,
    /// Tokens that the context holds before anything is timed
    #[arg(long, short, value_name = "N", alias = "n-depth", default_value_t = 0)]
    pub(crate) depth: usize,
    /// Tokens that the KV cache holds, over all sessions; without it, as many as the runs take
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Print one JSON value, with the keys of the peer's script
    #[arg(long)]
    pub(crate) json: bool,
    /// Show another engine's figures beside these: the JSON that its run printed
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) peer_json: Option<PathBuf>,
    /// Show where the time of a decode tick goes, instead of measuring speed
    #[arg(long, conflicts_with_all = ["peer_json", "sessions", "repeat"])]
    pub(crate) profile: bool,
    /// Stop at the first token after a short prompt, and say what memory it took: what the command starts to time a start
    #[arg(long, hide = true)]
    pub(crate) first_token: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}
