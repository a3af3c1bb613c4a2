//! Options of an engine, a model, a session and a request.

use crate::template::TemplateChoice;
use crate::world::ModelId;
use std::sync::Arc;
use weft_components::{Pooling, SamplerSettings, WhenFull};
use weft_formats::OpenModel;
use weft_gpu::GpuOptions;
use weft_platform::KvFormat;
use weft_platform::storage::{MemorySource, Source};
use weft_systems::place::GpuLayers;
use weft_text::SpecialTokens;

/// Options of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Compute threads; 0 for one per core.
    pub threads: usize,
    /// Instruction set of the CPU kernels (`scalar`, `avx2`, `avx512`, …); `None` for the best that the machine has.
    pub isa: Option<String>,
    /// Maximum number of rows in a wave; `None` for 512 on the CPU and 2048 on GPUs.
    pub max_rows: Option<usize>,
    /// Bytes of host memory that each model may use, for [`Engine::fit`](crate::Engine::fit); `None` for what is available.
    pub memory: Option<u64>,
    /// GPUs to open; `None` computes on the CPU.
    pub gpu: Option<GpuOptions>,
}

/// Options of a model that is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Capacity of the KV cache in tokens, over all sessions; rounded up to whole pages. `None` for the model's
    /// context, but at least 16,384 and at most 32,768.
    pub kv_tokens: Option<usize>,
    /// Format of keys and values in the KV cache.
    pub kv_format: KvFormat,
    /// Layers to put on the engine's GPUs; ignored if it has none.
    pub gpu_layers: GpuLayers,
    /// Bytes of the KV cache that contexts may take which no session holds any more. Later prompts with the same
    /// beginning use them, and sessions that need pages take theirs. `None` for the whole cache, which on the CPU then
    /// comes to take all of its memory; 0 keeps none.
    pub prefix_cache: Option<u64>,
    /// The chat template that the model uses.
    pub template: TemplateChoice,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            kv_tokens: None,
            kv_format: KvFormat::F16,
            gpu_layers: GpuLayers::Auto,
            prefix_cache: None,
            template: TemplateChoice::Shipped,
        }
    }
}

/// Options of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Maximum number of tokens in the session; `None` for the model's context, or the KV cache if that is smaller.
    pub context: Option<usize>,
    /// True if the session's context is shared with no other: it neither uses cached contexts nor leaves its own behind.
    pub private: bool,
    /// How urgent the session's prompts are: those of higher priority are computed first, and keep their pages longer.
    pub priority: i32,
    /// The client that the session works for. Prompts of clients get equal shares; `None` makes the session a client of
    /// its own.
    pub client: Option<u64>,
}

/// Options of a request.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Maximum number of generated tokens; `None` for no limit but the context. 0 only runs the prompt through the
    /// model.
    pub max_tokens: Option<usize>,
    /// Stop strings: they end the answer and are not part of it. A stop string that is the text of a control token,
    /// such as `<|im_end|>`, also ends the answer at that token. In a longer stop string a control token matches
    /// nothing, because it has no text.
    pub stop: Vec<String>,
    /// True to continue past end-of-generation tokens.
    pub ignore_end: bool,
    /// How tokens are sampled.
    pub sampler: SamplerSettings,
    /// Maximum number of the prompt's rows in one wave; 0 for as many as fit.
    pub prefill_chunk: usize,
    /// Maximum number of tokens that are drafted from earlier text and verified together with the next one; 0 for no
    /// speculation. The answer is the same, and on a CPU comes sooner where text repeats. How many are tried depends on how
    /// many were right, and on how much else the engine computes. On fast GPUs it may come later: a wave with drafts is
    /// read back before the next one starts.
    pub draft: usize,
    /// A smaller model with the same vocabulary that drafts the tokens, instead of earlier text. It keeps a session of its
    /// own for this one.
    pub draft_model: Option<ModelId>,
    /// What happens when the session's context is full.
    pub when_full: WhenFull,
}

/// Options of an embedding.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// How a text's hidden states become its embedding. `None` takes the pooling from the model's file; if the file has
    /// none, a decoder uses the last token's hidden state and an encoder the mean.
    pub pooling: Option<Pooling>,
    /// True to divide vectors by their Euclidean length.
    pub normalize: bool,
    /// Maximum number of a text's rows in one wave; 0 for as many as fit. An encoder always takes a text in one wave.
    pub prefill_chunk: usize,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: true, prefill_chunk: 0 }
    }
}

/// Tokens or text to add to a session's context.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Token ids.
    Tokens(Vec<u32>),
    /// Text, tokenized with the model's vocabulary. In an empty session it starts with a BOS token if the model's
    /// metadata says so.
    Text {
        /// The text.
        text: String,
        /// Whether the text of control tokens in it becomes those tokens.
        special: SpecialTokens,
    },
}

/// Where a model comes from.
#[derive(Clone)]
pub enum ModelSource {
    /// A GGUF file or any part of a split one; a Hugging Face folder, its weights or their index.
    #[cfg(not(target_family = "wasm"))]
    Path(std::path::PathBuf),
    /// The parts of a GGUF, in order.
    Parts(Vec<Arc<dyn Source>>),
    /// Files that are already open.
    Open(OpenModel),
}

impl ModelSource {
    /// A whole GGUF in memory, which messages call `name`.
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
