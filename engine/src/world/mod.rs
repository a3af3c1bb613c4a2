//! The whole public API as functions over a `World`.
//!
//! [`Engine`](crate::Engine) owns a world and has a method of the same or a similar name for each function. A program
//! that already has a world, such as a game, adds the plugins to it with [`add_plugin`](crate::add_plugin) and calls
//! the functions itself. On a world without the plugins they do not panic: they return an error or do nothing.

mod adapters;
mod chat;
mod embeddings;
mod figures;
mod fit;
mod models;
mod requests;
mod sessions;
mod tick;
mod turns;
#[cfg(not(target_family = "wasm"))]
mod wait;

pub use crate::answer::subscribe;
#[cfg(not(target_family = "wasm"))]
pub use crate::prefix_files::{load_prefixes, save_prefixes};
pub use crate::prepare::{load, load_prepared};
pub use crate::snapshot::{restore, snapshot};
pub use adapters::{
    AdapterId, AdapterSource, adapter, adapter_of, adapters, load_adapter, remove_adapter, set_adapter,
};
pub use chat::{ChatOptions, chat_tokens, render, set_chat, set_messages};
pub use embeddings::{Embedding, EmbeddingBatch, ask_embedding, embedding_prompt, pooling, take_embedding};
pub use figures::{
    HostMemory, clear_prefix_cache, gpu_shards, host_memory, prefix_stats, take_gpu_times, time_gpu,
};
pub use fit::fit;
#[cfg(not(target_family = "wasm"))]
pub(crate) use models::request_layers;
pub use models::{ModelId, config, has_template, progress, retry_load, sampling_defaults, tokenizer, unload};
pub use requests::{ask_logits, cancel, generate, read, take_logits};
pub use sessions::{
    SessionId, append, close_session, fork, history, model_of, open_session, output, pause, phase, resume,
    set_context,
};
pub(crate) use tick::ClosedSessions;
pub use tick::{ComputePool, LastTick, TickOutcome, finish_tick, run_tick, signal, tick, tick_for};
#[cfg(not(target_family = "wasm"))]
pub use wait::{embed, embed_each, next_piece, rest, wait, wait_loaded};
