//! Arguments of the commands that make model files.

use super::values::{factor, positive, threads};
use clap::Args;
use std::path::PathBuf;

/// `weft synth`
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// The GGUF file to write
    pub(crate) out: PathBuf,
    /// Format of the matrices: a format or a mix, such as f16, q8_0, q4_k_m, iq4_xs, mxfp4
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0")]
    pub(crate) format: String,
    /// Random seed of the weights: the same seed and shape give the same file
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads that generate weights; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Print {"path", "bytes", "tensors", "seconds"}
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
}

/// The hyperparameters of a synthetic model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shape")]
pub(crate) struct ShapeArgs {
    /// Defaults for the options below: 1b (Llama 3.2 1B) or 8b (Llama 3 8B); without it, those of a tiny model
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Architecture
    #[arg(long, default_value = "llama")]
    pub(crate) arch: String,
    /// Layers
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) layers: Option<usize>,
    /// Width of the hidden state
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) embedding: Option<usize>,
    /// Width of the feed-forward network
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) feed_forward: Option<usize>,
    /// Query heads
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) heads: Option<usize>,
    /// Key and value heads
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) kv_heads: Option<usize>,
    /// Dimensions of a key head; by default the width divided by the heads
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) key_length: Option<usize>,
    /// Dimensions of a value head; by default as many as a key head has
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) value_length: Option<usize>,
    /// Size of the vocabulary in tokens
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) vocab: Option<usize>,
    /// Context length in tokens that the model states
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) context: Option<usize>,
    /// Base of the RoPE frequencies
    #[arg(long, value_name = "X", value_parser = factor)]
    pub(crate) rope_base: Option<f32>,
    /// Attention window in tokens, of layers that have one
    #[arg(long, value_name = "N")]
    pub(crate) window: Option<usize>,
    /// Experts per layer
    #[arg(long, value_name = "N")]
    pub(crate) experts: Option<usize>,
    /// Experts per row
    #[arg(long, value_name = "N")]
    pub(crate) experts_used: Option<usize>,
    /// Width of an expert
    #[arg(long, value_name = "N")]
    pub(crate) expert_feed_forward: Option<usize>,
    /// Width of the shared expert, which every row uses; 0 for none
    #[arg(long, value_name = "N")]
    pub(crate) shared_feed_forward: Option<usize>,
    /// Use the token embedding as the output head too
    #[arg(long, conflicts_with = "untied")]
    pub(crate) tied: bool,
    /// Give the output head a matrix of its own
    #[arg(long)]
    pub(crate) untied: bool,
}

/// `weft convert`
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A folder with config.json and safetensors, as Hugging Face libraries save models
    pub(crate) folder: PathBuf,
    /// The GGUF file to write
    pub(crate) out: PathBuf,
    /// Format of the matrices: f32, f16, bf16, or a type of weft quantize; by default as in the folder
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) mix: Option<String>,
    /// Threads that convert; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Print {"path", "type", "bytes", "tensors", "formats", "seconds"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft quantize`
#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// A GGUF file in any formats, any part of a split model, or a name from `weft list`
    #[arg(value_name = "IN")]
    pub(crate) input: String,
    /// The GGUF file to write
    pub(crate) out: PathBuf,
    /// Target type, by llama.cpp's name, such as q4_k_m, q8_0, iq4_xs, f16
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) mix: String,
    /// Use the same format for all matrices, including the most sensitive ones
    #[arg(long)]
    pub(crate) pure: bool,
    /// Format of the output head, instead of what the type says
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output_type: Option<String>,
    /// Format of the token embedding, instead of what the type says
    #[arg(long, value_name = "FORMAT")]
    pub(crate) embedding_type: Option<String>,
    /// Threads that quantize; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Print {"path", "type", "bytes", "tensors", "formats", "seconds"}
    #[arg(long)]
    pub(crate) json: bool,
}
