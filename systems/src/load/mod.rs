//! The stage `Load`: from a model file to resident layers.
//!
//! [`gguf`] reads the container, or [`hugging_face`] presents a folder of [`safetensors`] as one;
//! [`architecture`](self) says what its tensors are for, the manifest orders them, the feed fetches them, and systems put
//! them into the world. [`adapter`] reads what changes a model. [`synth`] goes the other way and makes files up; [`quantize`]
//! writes them anew in other formats.

pub mod adapter;
mod architecture;
mod error;
mod feed;
mod file;
pub mod gguf;
pub mod hugging_face;
mod manifest;
mod mix;
mod open;
pub mod quantize;
mod receive;
pub mod safetensors;
mod sampling;
mod sentence;
mod spawn;
pub mod synth;
mod vocabulary;

pub use architecture::{ARCHITECTURES, Architecture, TensorPattern};
pub use error::LoadError;
pub use feed::{Arrival, FetchItem, Fetched, Install, LoadFeed, Loader, Prepare, Preparing};
pub use file::{ModelFile, ModelTemplate, ModelTokenizer, text_parts, vocabulary_parts};
pub use manifest::{ShardOwner, ShardSpec};
pub use mix::{Mix, MixedModel, MixedTensor};
pub use open::OpenModel;
pub use receive::{LoadFailed, Loading, receive_shards};
pub use spawn::{ModelOrigin, SpawnOptions, place_model, spawn_model};
