//! Reading model files and feeding their shards.

pub mod gguf;
