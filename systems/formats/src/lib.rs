//! Model files: reads them into a checked description of a model, and writes them.
//!
//! [`gguf`] reads the container, or [`hugging_face`] presents a folder of [`safetensors`] as one. The architecture
//! defines the role of each tensor, the manifest lists the tensors in the order in which a forward pass needs them, and
//! [`ModelFile`] contains the result. [`adapter`] reads LoRA adapters and merges them. [`synth`] writes files with
//! random weights; [`quantize`] writes files in other formats. This crate does not depend on the ECS.

pub mod adapter;
mod architecture;
mod error;
mod file;
pub mod gguf;
pub mod hugging_face;
mod manifest;
mod mix;
mod open;
pub mod quantize;
mod reader;
pub mod safetensors;
mod sampling;
mod sentence;
pub mod synth;
mod vocabulary;
mod vocabulary_entries;

pub use architecture::{ARCHITECTURES, Architecture, TensorPattern};
pub use error::ModelError;
pub use file::{ModelFile, text_parts, vocabulary_parts};
pub use manifest::{ShardOwner, ShardSpec};
pub use mix::{Mix, MixedModel, MixedTensor};
pub use open::OpenModel;
pub use reader::ModelReader;
