//! The wgpu backend: device, buffers, kernels. It decides nothing: the stages in `weft-systems` say what runs where.

mod adapters;
mod attention;
mod capabilities;
mod commands;
mod device;
mod error;
mod error_scopes;
mod fault;
mod limits;
mod logits;
mod memory;
mod options;
mod pack;
mod pipeline;
mod planes;
#[cfg(not(target_family = "wasm"))]
mod probe;
pub mod sampling;
pub mod shader;
#[cfg(not(target_family = "wasm"))]
mod snippet;
mod timing;
mod wave;
mod weights;
mod work;

pub use adapters::adapters;
pub use attention::{ActFormat, AttentionKernels, AttentionShape, PAGE, SPLITS_MAX, TILE};
pub use capabilities::Capabilities;
pub use commands::{Bound, Command, Commands, Counters};
pub use device::{Allocated, Gpu, storage_bytes};
pub use error::GpuError;
pub use logits::{LogitsBuffers, LogitsKernel, LogitsMask, LogitsShader};
pub use options::GpuOptions;
pub use pack::{PackedRows, pack};
pub use pipeline::{Kernel, Pipelines};
pub use planes::{BLOCK, Encoding, PLANES, device_bytes, plane_bytes};
#[cfg(not(target_family = "wasm"))]
pub use probe::GpuProbe;
pub use timing::{KernelTime, StepTimes};
pub use wave::{Count, DEVICE_TOKEN, WaveData, wave_bytes};
pub use weights::{GpuMatrix, Segment};
pub use wgpu;
pub use work::{StepShape, Work};
