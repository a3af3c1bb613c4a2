//! Everything that depends on the machine: SIMD kernels behind one dispatch table, the thread pool, storage.

mod activation_load;
pub mod activations;
pub mod buffer;
pub mod kernels;
pub mod kv_arena;
mod kv_seal;
pub mod kv_write;
pub mod matmul;
mod memory;
pub mod paged_attention;
mod quant_panel;
mod shared;
mod simd;
pub mod storage;
pub mod threads;
pub mod tile;
pub mod tile_packer;
pub mod wake;

pub use activations::{Activations, Need};
pub use buffer::MemoryError;
pub use kernels::Kernels;
pub use kv_arena::{Half, KV_BLOCK, KvArena, KvError, KvFormat, KvShape, PAGE};
pub use kv_write::KvRows;
pub use matmul::matmul;
pub use memory::available_memory;
pub use paged_attention::{AttentionParams, AttentionScratch, AttentionSpan, Recent, attention};
pub use threads::{Cpu, Pool, PoolError};
pub use tile::{CpuMatrix, PackError};
pub use tile_packer::{TILE_ROWS, TilePacker};
pub use wake::Signal;
