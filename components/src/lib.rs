//! Plain data of the Weft engine: components, relationships, resources, messages and tensor formats.
//!
//! Nothing here acts: no I/O, no threads, no arithmetic beyond decoding one block of one tensor format.

pub mod format;
pub mod formats;
pub mod sampling;

pub use format::{BlockCodes, BlockFormat, CODES, Codec, FormatInfo, TensorFormat, TileLayout};
pub use sampling::SamplerSettings;
