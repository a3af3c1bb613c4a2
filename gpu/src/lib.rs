//! The wgpu backend: device, buffers, kernels. It decides nothing: the stages in `weft-systems` say what runs where.

mod attention;
mod capabilities;
mod commands;
mod device;
mod error;
mod memory;
mod pipeline;
#[cfg(not(target_family = "wasm"))]
mod probe;
pub mod sampling;
pub mod shader;
mod timing;
mod wave;
mod weights;
mod work;

pub use attention::{ActFormat, AttentionKernels, AttentionShape, PAGE, SPLITS_MAX, TILE};
pub use capabilities::Capabilities;
pub use commands::{Bound, Command, Commands, Counters};
pub use device::{Allocated, Gpu, GpuOptions, adapters, storage_bytes};
pub use error::GpuError;
pub use pipeline::{Kernel, Pipelines};
#[cfg(not(target_family = "wasm"))]
pub use probe::GpuProbe;
pub use timing::{KernelTime, StepTimes};
pub use wave::{Count, DEVICE_TOKEN, WaveData, wave_bytes};
pub use weights::{BLOCK, GpuMatrix, PackedRows, Segment, device_bytes, layout_of, pack, plane_bytes};
pub use wgpu;
pub use work::{StepShape, Work};
