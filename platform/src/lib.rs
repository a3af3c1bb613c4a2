//! What differs per machine: SIMD kernels behind one dispatch table, thread pool, storage, clock.

pub mod storage;
