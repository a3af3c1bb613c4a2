//! Arguments of the commands that show what a model computes and measure how fast.

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
    /// Positions whose logits are printed, from 0; by default the last
    #[arg(long, value_name = "POSITIONS")]
    pub(crate) positions: Option<IdList>,
    /// Maximum prompt tokens per forward pass; 0 for as many as fit
    #[arg(long, value_name = "C", default_value_t = 0)]
    pub(crate) chunk: usize,
    /// Number of other sessions computed in the same wave
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = beside)]
    pub(crate) beside: usize,
    /// Size of the KV cache in tokens, over all sessions; by default as many as the prompts take
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
    /// Tokens per chunk and size of the KV cache; the second half of each chunk is scored
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
    /// Prompt tokens
    #[arg(long, short, value_name = "N", alias = "n-prompt", default_value_t = 512, value_parser = positive)]
    pub(crate) prompt: usize,
    /// Tokens decoded one by one; the first is not timed
    #[arg(long, short = 'n', value_name = "N", alias = "n-gen", default_value_t = 128, value_parser = at_least_two)]
    pub(crate) generate: usize,
    /// Numbers of sessions that decode together, such as 1,4,16 [default: 1,4,16; 1 with --profile]
    #[arg(long, value_name = "N,…")]
    pub(crate) sessions: Option<IdList>,
    /// Timed runs, of which the median is printed; one more run warms up
    #[arg(long, short, value_name = "N", alias = "repetitions", default_value_t = 3, value_parser = positive)]
    pub(crate) repeat: usize,
    /// Tokens already in the context when timing starts
    #[arg(long, short, value_name = "N", alias = "n-depth", default_value_t = 0)]
    pub(crate) depth: usize,
    /// Size of the KV cache in tokens, over all sessions; by default as many as the runs take
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Print one JSON value with the keys of peer_bench.py
    #[arg(long)]
    pub(crate) json: bool,
    /// Show another engine's figures next to these: a file with the JSON that its run printed
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) peer_json: Option<PathBuf>,
    /// Show where the time of a decode tick goes instead of measuring speed; a GPU's kernels are timed with one session
    #[arg(long, conflicts_with_all = ["peer_json", "repeat"])]
    pub(crate) profile: bool,
    /// Exit after the first token of a short prompt and print the memory used. `weft bench` starts itself with this
    /// option to time a start.
    #[arg(long, hide = true)]
    pub(crate) first_token: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

impl BenchArgs {
    /// Numbers of sessions that decode together.
    pub(crate) fn sessions(&self) -> &[u32] {
        match &self.sessions {
            Some(sessions) => &sessions.0,
            None if self.profile => &[1],
            None => &[1, 4, 16],
        }
    }
}
