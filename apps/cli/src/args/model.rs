//! Arguments that choose the model and the hardware that computes it.

use super::LoraArgs;
use super::values::{gpu_layers, positive, threads};
use clap::{Args, ValueEnum};
use weft::{GpuLayers, KvFormat};

/// Help text of every option that takes a model.
pub(super) const MODEL_HELP: &str =
    "A GGUF file, a Hugging Face folder, or a name from `weft list` or given to `weft pull`";

/// Which model is used, and what computes it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    #[arg(long, short, alias = "hf-repo", help = MODEL_HELP)]
    pub(crate) model: Option<String>,
    /// Where to compute; by default the GPU if --gpu-layers, --gpu, --gpus or --gpu-memory is given, else the value of
    /// WEFT_BACKEND, else auto
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendName>,
    /// Layers on the GPU, counted from the last: a number, all, or auto for as many as fit
    #[arg(long, value_name = "N", alias = "n-gpu-layers", value_parser = gpu_layers)]
    pub(crate) gpu_layers: Option<GpuLayers>,
    /// Use the GPU whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: Option<String>,
    /// Split the layers over up to N GPUs [default: 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) gpus: Option<usize>,
    /// Memory to use on each GPU, in MiB; by default all
    #[arg(long, value_name = "MIB")]
    pub(crate) gpu_memory: Option<u64>,
    /// Maximum time that one submit should keep the GPU busy, in milliseconds
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) gpu_submit_ms: Option<u64>,
    /// Turn off the GPU features that only add speed
    #[arg(long, hide = true)]
    pub(crate) gpu_plain: bool,
    /// Do not round activations on the GPU: slower, but an answer does not depend on what else is in its wave
    #[arg(long)]
    pub(crate) gpu_exact: bool,
    /// Maximum rows per wave
    #[arg(long, hide = true)]
    pub(crate) wave_rows: Option<std::num::NonZeroUsize>,
    /// Threads that compute; 0 for one per core
    #[arg(long, short, value_name = "N", default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// Format of the KV cache
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    pub(crate) kv: KvName,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
}

impl ModelArgs {
    /// Returns true if an option that needs a GPU was given.
    pub(crate) fn asks_for_a_gpu(&self) -> bool {
        self.gpu_layers.is_some_and(|layers| layers != GpuLayers::Count(0))
            || self.gpu.is_some()
            || self.gpus.is_some()
            || self.gpu_memory.is_some()
    }
}

/// Where the model is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// A hardware GPU if there is one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// A GPU; a software driver counts as one
    Gpu,
}

/// Format of keys and values in the KV cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum KvName {
    /// 16 bits per element
    F16,
    /// 32 bits per element: no rounding, twice the memory
    F32,
    /// 16 bits per element, rounded 8 times as much as f16
    Bf16,
    /// 8.5 bits per element: answers are nearly those of f16
    Q8_0,
    /// 4.5 bits per element: for contexts that do not fit otherwise, because answers are noticeably worse
    Q4_0,
    /// 3 bits per element, and 16 for the newest 128 tokens (KIVI's 2 bits): saves memory and no time;
    /// answers are noticeably worse once they are longer than that, worse than with q4_0 on some models
    Kivi2,
}

impl From<KvName> for KvFormat {
    fn from(name: KvName) -> Self {
        match name {
            KvName::F16 => Self::F16,
            KvName::F32 => Self::F32,
            KvName::Bf16 => Self::Bf16,
            KvName::Q8_0 => Self::Q8_0,
            KvName::Q4_0 => Self::Q4_0,
            KvName::Kivi2 => Self::Kivi2,
        }
    }
}
