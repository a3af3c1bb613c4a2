//! Safetensors: the header of a tensor file that Hugging Face's libraries save.
//!
//! A file consists of the length of its header in eight bytes; the header, a JSON object with the dtype, shape and byte
//! range of each tensor; and the tensors' data. Ranges are relative to the start of the data. Source: the README of the
//! `safetensors` repository, section "Format".
//!
//! Invariant: after [`SafetensorsHeader::read`] every tensor's range is inside the file, has the size of its dtype and
//! shape, and does not overlap another tensor. No file makes the reader panic or use more memory than a small multiple
//! of the actual header size.

mod dtype;
mod error;
mod header;

pub use dtype::Dtype;
pub use error::SafetensorsError;
pub use header::{SafetensorsHeader, SafetensorsTensor};
