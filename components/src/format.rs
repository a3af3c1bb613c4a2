//! Tensor formats as types.
//!
//! A *format* is how a file stores a tensor: a sequence of *blocks*, each with a fixed number of elements in a fixed
//! number of bytes, along the innermost dimension. One file under `formats/` defines one format by implementing
//! [`BlockFormat`]. [`FORMATS`] lists every type that the GGUF document names. The engine computes with some of them,
//! and knows only the size of the others.
//!
//! A *tile layout* is how a backend stores weights while it computes. Many formats share one layout, so a format needs
//! no kernel of its own. It defines how one of its blocks becomes codes, a scale and a minimum.

pub use crate::formats::block_format::{
    BlockCodes, BlockFormat, CODES, CodeKind, Codec, FormatInfo, SUPER, ScaleKind, TileLayout,
};

use crate::formats::FORMATS;
use core::fmt;

/// A tensor format: a handle to its row of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct TensorFormat(&'static FormatInfo);

impl TensorFormat {
    /// The format with this GGUF type id.
    pub fn from_ggml(id: u32) -> Option<Self> {
        FORMATS.iter().find(|f| f.ggml_type == id).map(Self)
    }

    /// The format with this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(Self)
    }

    /// Name as GGUF tools print it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Type id in a GGUF tensor table.
    pub fn ggml_type(self) -> u32 {
        self.0.ggml_type
    }

    /// Elements in a block.
    pub fn block(self) -> usize {
        self.0.block
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.0.bytes
    }

    /// The functions to compute with it; `None` if the engine knows only its size.
    pub fn codec(self) -> Option<Codec> {
        self.0.codec
    }

    /// Bytes of a row of `elements`; `None` if `elements` is not a multiple of the block or the size overflows.
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.0.block) {
            return None;
        }
        (elements / self.0.block).checked_mul(self.0.bytes)
    }

    /// Writes the exact values of `bytes`, whole blocks of this format, to `out`.
    ///
    /// Returns false and writes nothing if the format has no codec or the lengths do not match.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) -> bool {
        let Some(codec) = self.0.codec else { return false };
        if self.row_bytes(out.len()) != Some(bytes.len()) {
            return false;
        }
        for (block, values) in bytes.chunks_exact(self.0.bytes).zip(out.chunks_exact_mut(self.0.block)) {
            (codec.dequantize)(block, values);
        }
        true
    }
}

impl PartialEq for TensorFormat {
    fn eq(&self, other: &Self) -> bool {
        self.0.ggml_type == other.0.ggml_type
    }
}

impl Eq for TensorFormat {}

impl fmt::Debug for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}
