//! The GPU backend. In the world it keeps opened devices as a resource, and on each model with layers on them the
//! model's weights, plan, scratch buffers and in-flight steps.
//!
//! A wave's stages record commands; one submit at the end of a tick runs them. Nothing waits: the results of a submit
//! are mapped for reading, and a later tick collects them.

mod adapters;
mod attention;
mod backend;
mod capacity;
mod collect;
mod embed;
mod ffn;
mod figures;
mod gpu_shard;
mod grow;
mod head;
mod in_flight;
mod kernel_plan;
mod kv_pages;
mod layer_weights;
mod logits;
mod lowering;
mod plan_builder;
mod process_logits;
mod product;
mod recover;
mod reserved;
mod sample;
mod scratch;
mod shape;
mod steps;
mod submit_budget;
#[cfg(test)]
pub(crate) mod testing;
mod transfer;
mod upload;
mod vectors;
mod wave_upload;
mod weight_upload;

pub use attention::attention_gpu;
pub use backend::{GpuAt, GpuBackend};
pub use collect::collect_gpu;
pub use embed::embed_gpu;
pub use ffn::ffn_gpu;
pub use gpu_shard::{GpuShard, GpuShards};
pub use grow::shrink_waves;
pub use head::head_gpu;
pub use logits::GpuLogitsFailed;
#[cfg(not(target_family = "wasm"))]
pub use logits::{GpuLogits, LogitsProcessor};
#[cfg(not(target_family = "wasm"))]
pub use process_logits::{drop_gpu_logits, plan_gpu_logits};
pub use recover::{Recovery, recover_gpu};
pub use sample::sample_gpu;
pub use shape::{Attend, WaveShape};
pub use transfer::{GpuFailed, plan_gpu, plan_gpu_adapters, submit_gpu};
pub use weight_upload::GpuPrepare;
