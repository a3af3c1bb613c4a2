//! Arguments for LoRA adapters.

use super::model::MODEL_HELP;
use super::values::{finite, threads};
use clap::Args;
use std::path::PathBuf;

/// The LoRA adapter that sessions use.
#[derive(Debug, Args)]
pub(crate) struct LoraArgs {
    /// LoRA adapter: a GGUF file, or a folder saved by PEFT
    #[arg(long, value_name = "PATH")]
    pub(crate) lora: Option<PathBuf>,
    /// Factor on the adapter's contribution
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "lora", value_parser = finite)]
    pub(crate) lora_scale: f32,
}

/// `weft merge`
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The GGUF file to write
    pub(crate) out: PathBuf,
    #[arg(long, short, help = MODEL_HELP)]
    pub(crate) model: String,
    /// LoRA adapter: a GGUF file, or a folder saved by PEFT
    #[arg(long, value_name = "PATH")]
    pub(crate) lora: PathBuf,
    /// Factor on the adapter's contribution
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = finite)]
    pub(crate) lora_scale: f32,
    /// Format of the matrices that the adapter changes, such as f16, q8_0, q4_k; by default their current format, or
    /// f16 if nothing can be quantized to that
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) format: Option<String>,
    /// Threads that compute; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Print {"path", "bytes", "tensors", "changed", "seconds"}
    #[arg(long)]
    pub(crate) json: bool,
}
