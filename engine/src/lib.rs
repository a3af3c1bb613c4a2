//! The Weft inference engine: large language models as an ECS.
//!
//! An [`Engine`] holds one `World`. Models, layers, weight shards, KV pages and sessions are entities; a tick loads
//! what has arrived, passes a wave of rows from all sessions through the layers that are there, and chooses tokens.
//!
//! ```no_run
//! use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions};
//!
//! fn main() -> Result<(), weft::Error> {
//!     let mut engine = Engine::new(&EngineOptions::default())?;
//!     let model = engine.load("SmolLM2-135M-Instruct.Q4_1.gguf", &LoadOptions::default())?;
//!     let session = engine.open_session(model, &SessionOptions::default())?;
//!     engine.set_messages(session, &[Message::new("user", "What is the capital of France?")])?;
//!     engine.generate(session, &GenerateOptions::default())?;
//!     while let Some(piece) = engine.next_piece(session)? {
//!         print!("{piece}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! In a program with a loop of its own, call [`Engine::tick`] and [`Engine::read`] instead of
//! [`Engine::next_piece`]: a tick never waits.

mod adapter;
mod chat;
mod embedding;
mod engine;
mod error;
mod figures;
mod options;
mod prepare;
mod schedule;
mod session;
mod vocabulary;

pub use adapter::{AdapterId, AdapterSource};
pub use chat::{ChatOptions, TemplateChoice};
pub use embedding::Embedding;
pub use engine::{Engine, ModelId, TickOutcome};
pub use error::Error;
pub use figures::HostMemory;
pub use options::{
    EmbedOptions, EngineOptions, GenerateOptions, LoadOptions, ModelSource, Prompt, SessionOptions,
};
pub use prepare::PreparedModel;
pub use schedule::{LayerSet, LayerStep, SampleSet, Tick, TickSet};
pub use session::SessionId;
pub use vocabulary::{VocabularyFile, wall_clock};
pub use weft_components as components;
pub use weft_components::{
    Adapter, DeviceEvent, DeviceEventKind, FinishReason, IgnoredDefault, KeepLogits, LoadProgress,
    LogitsKept, ModelConfig, Output, Phase, Pooling, SamplerSettings, SamplingDefaults, SentenceConfig,
    SessionEvent, SessionEventKind, TensorFormat, TokenLogprob,
};
pub use weft_formats::adapter::{
    AdapterBase, AdapterError, AdapterFile, AdapterFiles, Merge, MergeError, Stored,
};
pub use weft_formats::{ARCHITECTURES, Architecture, ModelError, ModelFile, OpenModel};
pub use weft_formats::{gguf, hugging_face, quantize, safetensors, synth};
#[cfg(not(target_family = "wasm"))]
pub use weft_gpu::GpuProbe;
pub use weft_gpu::{
    Allocated, Capabilities, Counters, Gpu, GpuError, GpuOptions, KernelTime, StepTimes, Work,
};
pub use weft_platform::{CpuMatrix, Kernels, KvFormat, PAGE, storage};
pub use weft_systems::on_gpu::{GpuModel, GpuPart};
pub use weft_systems::place::{GpuLayers, LoadError};
pub use weft_text::{
    BUILTIN_TEMPLATES, BuiltinTemplate, ChatTemplate, CivilTime, Message, Rendered, SpecialTokens,
    TemplateError, TemplateVars, TokenizeError, Tokenizer,
};
