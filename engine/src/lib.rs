//! The Weft inference engine: large language models as an ECS.
//!
//! An [`Engine`] holds one `World`. Models, layers, weight shards, KV pages and sessions are entities. A tick takes the
//! shards that have arrived, runs a wave of rows from all active sessions through the resident layers, and samples
//! tokens.
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
//! There are four ways to drive it:
//! - Calls that block, such as [`Engine::next_piece`], as above.
//! - Your own loop over [`Engine::tick`] or [`Engine::tick_for`], which do not wait for shards or devices, and
//!   [`Engine::read`].
//! - An [`EngineHandle`]: the engine runs on its own thread and serves iterators, streams and callbacks on any thread.
//! - Your own `World`: [`add_plugin`] and the functions of [`world`], which `Engine` calls too.
//!
//! [`Engine::add_systems`] adds your own systems to the sets of the pipeline, ordered against the pipeline's
//! [`systems`]. `examples/` has a program for each.

mod answer;
mod engine;
mod error;
#[cfg(not(target_family = "wasm"))]
mod handle;
mod options;
mod plugin;
#[cfg(not(target_family = "wasm"))]
mod prefix_files;
mod prepare;
mod schedule;
mod sections;
mod snapshot;
pub mod systems;
mod template;
mod vocabulary;
pub mod world;

pub use answer::{Pieces, Subscription};
pub use bevy_ecs;
pub use engine::Engine;
pub use error::Error;
#[cfg(not(target_family = "wasm"))]
pub use handle::{Answer, EngineHandle, Reply};
pub use options::{
    EmbedOptions, EngineOptions, GenerateOptions, LoadOptions, ModelSource, Prompt, SessionOptions,
};
pub use plugin::{CorePlugin, CpuPlugin, GpuPlugin, Plugin, add_plugin};
#[cfg(not(target_family = "wasm"))]
pub use prefix_files::{LoadedPrefixes, PageFileError, PrefixFolderError, SavedPrefixes};
pub use prepare::{PreparedModel, PreparedModelReader};
pub use schedule::{LayerSet, LayerStep, PipelineSet, SampleSet, Tick, TickBudget, TickSet, add_systems};
pub use snapshot::{Snapshot, SnapshotError};
pub use template::TemplateChoice;
pub use vocabulary::{VocabularyFile, wall_clock};
pub use weft_components as components;
pub use weft_components::{
    Adapter, DeviceEvent, DeviceEventKind, FinishReason, IgnoredDefault, KeepLogits, LoadProgress,
    LogitsKept, ModelConfig, Output, Phase, Pooling, SamplerSettings, SamplingDefaults, SentenceConfig,
    SessionEvent, SessionEventKind, TensorFormat, TokenLogprob, WhenFull,
};
pub use weft_formats::adapter::{
    AdapterBase, AdapterError, AdapterFile, AdapterFiles, Merge, MergeError, Stored,
};
pub use weft_formats::{
    ARCHITECTURES, Architecture, ModelError, ModelFile, OpenModel, ShardOwner, ShardSpec,
};
pub use weft_formats::{gguf, hugging_face, quantize, safetensors, synth};
#[cfg(not(target_family = "wasm"))]
pub use weft_gpu::GpuProbe;
pub use weft_gpu::{
    Allocated, Capabilities, Counters, Gpu, GpuError, GpuOptions, KernelTime, LogitsShader, StepTimes, Work,
};
pub use weft_platform::{
    Cpu, CpuMatrix, Kernels, KvArena, KvError, KvFormat, KvShape, PAGE, Pool, Signal, storage,
};
pub use weft_systems as stages;
pub use weft_systems::admit::{AdmissionOrder, AdmitOptions, Preempt};
pub use weft_systems::host::Wake;
pub use weft_systems::load::{Fit, FitOptions, PlaceFit};
pub use weft_systems::on_gpu::{GpuShard, GpuShards};
pub use weft_systems::place::{Backend, Backends, GpuLayers, LoadError};
pub use weft_text::{
    BUILTIN_TEMPLATES, BuiltinTemplate, ChatTemplate, CivilTime, Message, Rendered, SpecialTokens,
    TemplateError, TemplateVars, TokenizeError, Tokenizer,
};
pub use world::{
    AdapterId, AdapterSource, ChatOptions, ComputePool, Embedding, HostMemory, LastTick, ModelId, SessionId,
    TickOutcome, tick, tick_for,
};
