//! What differs per machine: SIMD kernels behind one dispatch table, thread pool, storage.

pub mod activations;
pub mod attention;
pub mod buffer;
pub mod kernels;
pub mod kv;
pub mod kv_write;
pub mod matmul;
mod simd;
pub mod storage;
pub mod threads;
pub mod tile;
pub mod wake;

pub use activations::{Activations, Need};
pub use attention::{AttentionParams, AttentionScratch, AttentionSpan, attention};
pub use buffer::MemoryError;
pub use kernels::Kernels;
pub use kv::{KvArena, KvError, KvFormat, KvShape, PAGE};
pub use kv_write::KvRows;
pub use matmul::matmul;
pub use threads::{Cpu, Pool, PoolError};
pub use tile::{CpuMatrix, PackError, TILE_ROWS, TilePacker};
pub use wake::Signal;
