//! Safetensors: the header of a file of tensors, as Hugging Face's libraries save them.
//!
//! A file is the length of its header, eight bytes; the header, a JSON object that names each tensor with its dtype, shape and
//! range; and the tensors' data, to which the ranges are relative. Source: the format's description in the `safetensors`
//! repository, README section "Format".
//!
//! Invariant: after [`SafetensorsHeader::read`] every tensor's range is inside the file, of the size that its dtype and shape
//! ask for, and shared with no other tensor. No file, whatever it holds, makes the reader panic or take more memory than a small
//! multiple of the header's real size.

mod dtype;
mod error;
mod header;

pub use dtype::Dtype;
pub use error::SafetensorsError;
pub use header::{SafetensorsHeader, SafetensorsTensor};
