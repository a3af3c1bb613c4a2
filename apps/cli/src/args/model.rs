//! Which model, and what computes it.

use super::LoraArgs;
use super::values::{gpu_layers, positive, threads};
use clap::{Args, ValueEnum};
use weft::{GpuLayers, KvFormat};

/// What may be given wherever a model is asked for.
pub(super) const MODEL_HELP: &str =
    "A GGUF file, a Hugging Face folder, or a name: one from `weft list`, or one that `weft pull` took";

/// Which model, and what computes it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    #[arg(long, short, alias = "hf-repo", help = MODEL_HELP)]
    pub(crate) model: Option<String>,
    /// What computes; without it the GPU where --gpu-layers, --gpu, --gpus or --gpu-memory ask for
    /// one, else what WEFT_BACKEND says, else auto
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendName>,
    /// Layers on the GPU, the last ones: a number, all, or auto for as many as fit
    #[arg(long, value_name = "N", alias = "n-gpu-layers", value_parser = gpu_layers)]
    pub(crate) gpu_layers: Option<GpuLayers>,
    /// Use the GPU with this in its name
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: Option<String>,
    /// Split the layers over up to N GPUs [default: 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) gpus: Option<usize>,
    /// Memory of each GPU that may be used, in MiB; without it, all
    #[arg(long, value_name = "MIB")]
    pub(crate) gpu_memory: Option<u64>,
    /// Longest that one submit should keep the GPU busy, in milliseconds
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) gpu_submit_ms: Option<u64>,
    /// Use none of the GPU features that only add speed
    #[arg(long, hide = true)]
    pub(crate) gpu_plain: bool,
    /// Do not round activations on the GPU: slower, but what is computed beside an answer does not change it
    #[arg(long)]
    pub(crate) gpu_exact: bool,
    /// Most rows that pass through the model together
    #[arg(long, hide = true)]
    pub(crate) wave_rows: Option<std::num::NonZeroUsize>,
    /// Threads that compute; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// How the KV cache is stored
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    pub(crate) kv: KvName,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
}

impl ModelArgs {
    /// Whether an option was given that only a GPU can follow.
    pub(crate) fn asks_for_a_gpu(&self) -> bool {
        self.gpu_layers.is_some_and(|layers| layers != GpuLayers::Count(0))
            || self.gpu.is_some()
            || self.gpus.is_some()
            || self.gpu_memory.is_some()
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// The GPU where there is a real one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// The GPU, a software driver too
    Gpu,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum KvName {
    F16,
    F32,
    Q8_0,
}

impl From<KvName> for KvFormat {
    fn from(name: KvName) -> Self {
        match name {
            KvName::F16 => Self::F16,
            KvName::F32 => Self::F32,
            KvName::Q8_0 => Self::Q8_0,
        }
    }
}
