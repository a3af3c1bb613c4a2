//! The KV cache's memory: one arena of pages.
//!
//! A *page* holds the keys and values of [`PAGE`] consecutive tokens. A *slot* is a page of every layer and KV head; a
//! session's block table says which slot holds which of its pages. In memory: layer, slot, KV head, then the page:
//! keys as `[key dimension][32 tokens]` (the lanes of a product are tokens), values as
//! `[32 tokens][value dimension, padded to 16]` (the lanes are dimensions). [`KvFormat::Q8_0`] has the scales behind
//! them, halves: the keys' as `[block of 32 dimensions][32 tokens]`, then the values' likewise; and what it holds is
//! turned by `kernels::hadamard`, as attention turns its queries and, back, its output.
//!
//! Invariant: memory is allocated once; a page handed to a new session may hold the old one's numbers, which
//! attention never reads since it only looks at tokens up to a query's position.

use crate::buffer::{Buffer, MemoryError, checked_size};
use crate::simd::LANES;

/// Tokens of a page.
pub const PAGE: usize = 32;

/// Largest key or value dimension.
pub const MAX_HEAD_DIM: usize = 512;

/// Elements of a key or value that share a scale in [`KvFormat::Q8_0`].
pub(crate) const KV_BLOCK: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// IEEE half floats.
    F16,
    /// 32-bit floats.
    F32,
    /// Signed bytes, and for every token and 32 elements of a head a half that they are multiplied by: 8.5 bits an
    /// element. The scale is the largest magnitude / 127; the last block is shorter where a head is no multiple of 32.
    /// Heads of a multiple of 16 are turned by a Hadamard matrix first, which a few large elements make worthwhile.
    Q8_0,
}

impl KvFormat {
    /// Bytes of an element, without the scale that some share: see [`KvFormat::row_bytes`].
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::Q8_0 => 1,
        }
    }

    /// Bytes of one head's key or value of `dim` elements, without padding. No overflow up to [`MAX_HEAD_DIM`].
    pub const fn row_bytes(self, dim: usize) -> usize {
        dim * self.bytes() + self.blocks(dim) * size_of::<u16>()
    }

    /// Whether heads are turned before they are stored.
    pub(crate) const fn rotates(self) -> bool {
        matches!(self, Self::Q8_0)
    }

    /// Scales of a key or value of `dim` elements.
    const fn blocks(self, dim: usize) -> usize {
        match self {
            Self::F16 | Self::F32 => 0,
            Self::Q8_0 => dim.div_ceil(KV_BLOCK),
        }
    }
}

/// The shape of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers.
    pub layers: usize,
    /// Pages of each layer.
    pub slots: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a key.
    pub k_dim: usize,
    /// Elements of a value.
    pub v_dim: usize,
    /// How they are stored.
    pub format: KvFormat,
}

impl KvShape {
    /// Elements of a value in memory.
    pub(crate) fn v_pad(&self) -> usize {
        self.v_dim.next_multiple_of(LANES)
    }

    /// Bytes of one head's page. No overflow once the dimensions are checked.
    pub(crate) fn page_bytes(&self) -> usize {
        (self.format.row_bytes(self.k_dim) + self.format.row_bytes(self.v_pad())) * PAGE
    }

    /// Bytes of the whole arena.
    ///
    /// # Errors
    /// Where a dimension is out of range or the size overflows.
    pub fn bytes(&self) -> Result<usize, KvError> {
        for dim in [self.k_dim, self.v_dim] {
            if dim == 0 || dim > MAX_HEAD_DIM {
                return Err(KvError::HeadDim { dim });
            }
        }
        Ok(checked_size(&[self.layers, self.slots, self.kv_heads, self.page_bytes()])?)
    }
}

/// Why there is no arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// A key or value of a size that the kernels do not take.
    #[error("attention heads of {dim} elements are not supported: 1 to {MAX_HEAD_DIM} are")]
    HeadDim {
        /// Elements of a head.
        dim: usize,
    },
    /// No memory for the KV cache.
    #[error("KV cache: {0}")]
    Memory(#[from] MemoryError),
}

/// The memory of a model's KV cache.
pub struct KvArena {
    shape: KvShape,
    memory: Buffer,
}

impl KvArena {
    /// An arena of zeros. Natively its pages take no memory until they are written.
    ///
    /// # Errors
    /// See [`KvError`].
    pub fn new(shape: KvShape) -> Result<Self, KvError> {
        Ok(Self { shape, memory: Buffer::sparse(shape.bytes()?)? })
    }

    /// Its shape.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Bytes of address space; memory is taken page by page as it is written.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Bytes of a slot over all layers.
    pub fn slot_bytes(&self) -> usize {
        self.shape.layers * self.slot_stride()
    }

    /// Bytes from one slot of a layer to the next.
    pub(crate) fn slot_stride(&self) -> usize {
        self.shape.kv_heads * self.shape.page_bytes()
    }

    /// Memory of one layer.
    pub fn layer(&self, layer: usize) -> &[u8] {
        let size = self.shape.slots * self.slot_stride();
        &self.memory.bytes()[layer * size..][..size]
    }

    /// Memory of one layer, to be written.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut [u8] {
        let size = self.shape.slots * self.slot_stride();
        &mut self.memory.bytes_mut()[layer * size..][..size]
    }

    /// Copies slot `from` to slot `to` in every layer: a session that diverges within a shared page.
    ///
    /// # Panics
    /// Where a slot is out of range.
    pub fn copy_slot(&mut self, from: u32, to: u32) {
        let (from, to) = (from as usize, to as usize);
        assert!(from < self.shape.slots && to < self.shape.slots, "no such page of the KV cache");
        let stride = self.slot_stride();
        for layer in 0..self.shape.layers {
            let start = layer * self.shape.slots * stride;
            let source = start + from * stride;
            self.memory.bytes_mut().copy_within(source..source + stride, start + to * stride);
        }
    }
}
