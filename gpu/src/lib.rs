//! The wgpu backend: device, buffers and kernels. The stages in `weft-systems` decide what runs on it.

mod adapter_list;
mod attention_kernels;
mod capabilities;
mod command;
mod command_list;
mod device;
mod device_memory;
mod error;
mod error_scopes;
mod fault;
mod gpu_matrix;
mod gpu_options;
mod kv_layout;
mod limits;
mod logits_kernels;
mod pipeline;
mod plane_packing;
mod planes;
#[cfg(not(target_family = "wasm"))]
mod probe;
mod recent_pages;
pub mod sampling;
pub mod shader;
#[cfg(not(target_family = "wasm"))]
mod snippet;
mod timing;
mod wave_upload;
mod work;

pub use adapter_list::adapters;
pub use attention_kernels::{ActFormat, AttentionKernels, AttentionShape, PAGE, SPLITS_MAX, TILE};
pub use capabilities::Capabilities;
pub use command::{Bound, Command};
pub use command_list::{Commands, Counters};
pub use device::{Allocated, Gpu, storage_bytes};
pub use error::GpuError;
pub use gpu_matrix::{GpuMatrix, Segment};
pub use gpu_options::GpuOptions;
pub use kv_layout::KvLayout;
pub use logits_kernels::{LogitsBuffers, LogitsKernel, LogitsMask, LogitsShader};
pub use pipeline::{Kernel, Pipelines};
pub use plane_packing::{PackedRows, pack};
pub use planes::{BLOCK, Encoding, PLANES, device_bytes, plane_bytes};
#[cfg(not(target_family = "wasm"))]
pub use probe::GpuProbe;
pub use recent_pages::RecentPages;
pub use timing::{KernelTime, StepTimes};
pub use wave_upload::{Count, DEVICE_TOKEN, KV_CLASSES, WaveData, wave_bytes};
pub use wgpu;
pub use work::{StepShape, Work};
