//! How an engine, a load and a session are set up.

use crate::template::TemplateChoice;
use std::sync::Arc;
use weft_components::{Pooling, SamplerSettings};
use weft_formats::OpenModel;
use weft_gpu::GpuOptions;
use weft_platform::KvFormat;
use weft_platform::storage::{MemorySource, Source};
use weft_systems::place::GpuLayers;
use weft_text::SpecialTokens;

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Threads that compute; 0 for as many as the machine has cores.
    pub threads: usize,
    /// Name of the instruction set to use instead of the best one found (`scalar`, `avx2`, `avx512`, …).
    pub isa: Option<String>,
    /// Most rows of a wave; `None` for 512 on the CPU and 2048 on GPUs.
    pub max_rows: Option<usize>,
    /// Bytes of the machine's memory that models may use, for [`Engine::fit`](crate::Engine::fit); `None` for what is available.
    pub memory: Option<u64>,
    /// GPUs to open; `None` computes on the CPU.
    pub gpu: Option<GpuOptions>,
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Tokens that the KV cache holds, over all sessions; rounded up to whole pages. `None` for the model's
    /// context, but at least 16,384 and at most 32,768.
    pub kv_tokens: Option<usize>,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Layers to put on the engine's GPUs; ignored if it has none.
    pub gpu_layers: GpuLayers,
    /// Which chat template the model uses.
    pub template: TemplateChoice,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            kv_tokens: None,
            kv_format: KvFormat::F16,
            gpu_layers: GpuLayers::Auto,
            template: TemplateChoice::Shipped,
        }
    }
}

/// How a session is opened.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Most tokens the session may hold; `None` for the model's context, or the KV cache if that is smaller.
    pub context: Option<usize>,
}

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Most tokens; `None` until the model ends or the context is full. 0 only passes the prompt through.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it. One that is the text of a control token, such as `<|im_end|>`, also ends
    /// it at that token. Inside a longer stop string a control token matches nothing, since it shows no text.
    pub stop: Vec<String>,
    /// True to continue past end-of-generation tokens.
    pub ignore_end: bool,
    /// How tokens are chosen.
    pub sampler: SamplerSettings,
    /// Most rows of the prompt in one wave; 0 for as many as fit.
    pub prefill_chunk: usize,
}

/// How to compute an embedding.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// How a text's hidden states become its embedding; `None` as the model's file says, else the last token's for a decoder
    /// and the mean for an encoder.
    pub pooling: Option<Pooling>,
    /// True to divide vectors by their Euclidean length.
    pub normalize: bool,
    /// Most rows of a text in one wave; 0 for as many as fit. Texts of encoders always pass in one wave.
    pub prefill_chunk: usize,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: true, prefill_chunk: 0 }
    }
}

/// What to add to a session's context.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Tokens.
    Tokens(Vec<u32>),
    /// Text, tokenized with the model's vocabulary; a BOS token where the model's metadata asks for one and the
    /// session is empty.
    Text {
        /// The text.
        text: String,
        /// Whether names of control tokens in the text are read as those tokens.
        special: SpecialTokens,
    },
}

/// Where a model comes from.
#[derive(Clone)]
pub enum ModelSource {
    /// A GGUF file, or any part of a split one; a Hugging Face folder, or the weights in it or their index.
    #[cfg(not(target_family = "wasm"))]
    Path(std::path::PathBuf),
    /// The parts of a GGUF, in order.
    Parts(Vec<Arc<dyn Source>>),
    /// Files that are open.
    Open(OpenModel),
}

impl ModelSource {
    /// A whole GGUF in memory.
    pub fn memory(name: &str, bytes: Vec<u8>) -> Self {
        Self::Parts(vec![Arc::new(MemorySource::new(name, bytes))])
    }
}

#[cfg(not(target_family = "wasm"))]
impl From<&std::path::Path> for ModelSource {
    fn from(path: &std::path::Path) -> Self {
        Self::Path(path.to_owned())
    }
}

#[cfg(not(target_family = "wasm"))]
impl From<&str> for ModelSource {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}
