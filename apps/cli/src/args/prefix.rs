//! Arguments for the cache of computed prompts on disk.

use clap::Args;
use std::path::PathBuf;

/// The folder that keeps the KV cache of prompts from one run to the next.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct PrefixArgs {
    /// Keep computed prompts in this folder, and compute only what it does not have; if the whole model is on the CPU and
    /// uses no adapter
    #[arg(long, value_name = "DIR", conflicts_with = "lora")]
    pub(crate) prefix_cache: Option<PathBuf>,
    /// Maximum size of the folder, in MiB; what was saved the longest ago is removed
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "prefix_cache")]
    pub(crate) prefix_cache_size: u64,
}
