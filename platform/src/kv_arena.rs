//! The memory of the KV cache: one arena of pages.
//!
//! A *page* contains the keys and values of [`PAGE`] consecutive tokens. A *slot* is one page of every layer and KV
//! head. A session's block table lists the slots of its pages. Memory order: layer, slot, KV head, then the page. In a
//! page, keys are `[key dimension][32 tokens]` (the lanes of a product are tokens) and values are `[32 tokens][value
//! dimension, padded to 16]` (the lanes are dimensions). Both are whole groups of 16 lanes. A group of
//! [`KvFormat::Q4_0`] is 8 bytes: lane `i` is the low half of byte `i`, lane `i + 8` its high half. So a key shares its
//! bytes with the token 8 places away, and a value shares none.
//!
//! [`KvFormat::Q8_0`] and [`KvFormat::Q4_0`] have f16 scales behind keys and values: `[block of 32 dimensions][32
//! tokens]` for keys, then the same for values. They store vectors that `kernels::hadamard` has rotated; attention
//! rotates its queries, and rotates its output back.
//!
//! A group of [`KvFormat::Kivi2`] is 4 bytes, lane 0 in the lowest bits. Behind keys and values are the keys' scales,
//! `[block of 32 dimensions][dimension]`, the keys' least values in the same order, then those of values, `[block of 32
//! dimensions][32 tokens]`.
//!
//! Invariant: memory is allocated once. A page that passes to a new session may contain the previous session's data.
//! Attention never reads it, since it only reads tokens up to a query's position.

use crate::buffer::{Buffer, MemoryError, checked_size};
use crate::simd::LANES;
use core::ops::Range;

/// Tokens in a page.
pub const PAGE: usize = 32;

/// Largest key or value dimension.
pub const MAX_HEAD_DIM: usize = 512;

/// Elements that share a scale: of a key or value in [`KvFormat::Q8_0`] and [`KvFormat::Q4_0`]. As many as a page has
/// tokens, which [`KvFormat::Kivi2`] relies on.
pub const KV_BLOCK: usize = 32;

/// Storage format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 16-bit floats (f16).
    F16,
    /// 32-bit floats.
    F32,
    /// 16-bit floats with the range of f32 and 8 bits of precision instead of the 11 of [`KvFormat::F16`] (bfloat16).
    Bf16,
    /// Signed bytes, and an f16 scale for every token and 32 elements of a head: 8.5 bits per element. The scale is the
    /// largest magnitude / 127. The last block is shorter if the head is not a multiple of 32. Heads that are a
    /// multiple of 16 are rotated by a Hadamard matrix first, because a few of their elements are large.
    Q8_0,
    /// Codes of 4 bits, -8 to 7, with scales and rotation as in [`KvFormat::Q8_0`]: 4.5 bits per element. The scale is
    /// one that makes the block's error small: see `kernels::kv_codes`.
    Q4_0,
    /// Codes of 2 bits, 0 to 3, with an f16 scale and an f16 least value for each block of 32: 3 bits per element, as in
    /// KIVI (arXiv 2402.02750). A block of keys is one dimension of 32 tokens, a block of values is 32 dimensions of one
    /// token. Whole pages are converted from [`KvFormat::F16`] ([`KvArena::seal`]); a context's newest tokens stay in an
    /// arena of that format ([`Recent`](crate::Recent)).
    Kivi2,
}

impl KvFormat {
    /// Every format that tokens are written in one by one, in the order of the enum: all but [`KvFormat::Kivi2`].
    pub const ALL: [Self; 5] = [Self::F16, Self::F32, Self::Bf16, Self::Q8_0, Self::Q4_0];

    /// Bits of an element, without scales: see [`KvFormat::row_bytes`].
    pub const fn bits(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 16,
            Self::F32 => 32,
            Self::Q8_0 => 8,
            Self::Q4_0 => 4,
            Self::Kivi2 => 2,
        }
    }

    /// Bytes of one head's key or value of `dim` elements, without padding. Does not overflow up to [`MAX_HEAD_DIM`].
    pub const fn row_bytes(self, dim: usize) -> usize {
        (dim * self.bits()).div_ceil(8) + self.scales(dim) * size_of::<u16>()
    }

    /// Returns true if heads are rotated before they are stored.
    pub(crate) const fn rotated(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0)
    }

    /// Returns true if tokens are not written in this format one by one, but pages are converted to it when they are
    /// complete.
    pub const fn is_sealed(self) -> bool {
        matches!(self, Self::Kivi2)
    }

    /// Number of scales and least values of a key or value of `dim` elements, on average over a page.
    const fn scales(self, dim: usize) -> usize {
        let blocks = dim.div_ceil(KV_BLOCK);
        match self {
            Self::F16 | Self::F32 | Self::Bf16 => 0,
            Self::Q8_0 | Self::Q4_0 => blocks,
            Self::Kivi2 => 2 * blocks,
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
    /// Number of KV heads.
    pub kv_heads: usize,
    /// Elements of a key.
    pub k_dim: usize,
    /// Elements of a value.
    pub v_dim: usize,
    /// Storage format.
    pub format: KvFormat,
}

impl KvShape {
    /// Elements of a value, with padding.
    pub fn v_pad(&self) -> usize {
        self.v_dim.next_multiple_of(LANES)
    }

    /// Bytes of one head's page. Does not overflow once the dimensions are checked.
    pub fn page_bytes(&self) -> usize {
        let [_, values] = self.halves();
        values.scales.end
    }

    /// The two parts of a head's page: keys, then values.
    pub fn halves(&self) -> [Half; 2] {
        let dims = [self.k_dim, self.v_pad()];
        let [keys, values] = dims.map(|dim| dim * PAGE * self.format.bits() / 8);
        let [k_scales, v_scales] = dims.map(|dim| self.format.scales(dim) * PAGE * size_of::<u16>());
        let all = keys + values;
        [
            Half { elements: 0..keys, scales: all..all + k_scales },
            Half { elements: keys..all, scales: all + k_scales..all + k_scales + v_scales },
        ]
    }

    /// Bytes of the whole arena.
    ///
    /// # Errors
    /// A dimension is out of range, or the size overflows.
    pub fn bytes(&self) -> Result<usize, KvError> {
        for dim in [self.k_dim, self.v_dim] {
            if dim == 0 || dim > MAX_HEAD_DIM {
                return Err(KvError::HeadDim { dim });
            }
        }
        Ok(checked_size(&[self.layers, self.slots, self.kv_heads, self.page_bytes()])?)
    }
}

/// The part of a page that contains a head's keys, or its values.
pub struct Half {
    /// Bytes of the elements.
    pub elements: Range<usize>,
    /// Bytes of the scales; empty if the format has none.
    pub scales: Range<usize>,
}

/// Why an arena could not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// A key or value dimension that the kernels do not support.
    #[error(
        "attention heads of {dim} elements are not supported; use a model with heads of 1 to {MAX_HEAD_DIM} elements"
    )]
    HeadDim {
        /// Elements of a head.
        dim: usize,
    },
    /// Too little memory for the KV cache.
    #[error("KV cache: {0}")]
    Memory(#[from] MemoryError),
}

/// The memory of a model's KV cache.
pub struct KvArena {
    shape: KvShape,
    memory: Buffer,
}

impl KvArena {
    /// Allocates an arena of zeros. Natively its pages take no memory until they are written.
    ///
    /// # Errors
    /// See [`KvError`].
    pub fn new(shape: KvShape) -> Result<Self, KvError> {
        Ok(Self { shape, memory: Buffer::sparse(shape.bytes()?)? })
    }

    /// The shape of the arena.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Bytes of address space. Memory is taken page by page as it is written.
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

    /// Memory of one layer, writable.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut [u8] {
        let size = self.shape.slots * self.slot_stride();
        &mut self.memory.bytes_mut()[layer * size..][..size]
    }

    /// Memory of one slot of a layer.
    ///
    /// # Panics
    /// If the layer or the slot is out of range.
    pub fn slot(&self, layer: usize, slot: u32) -> &[u8] {
        let stride = self.slot_stride();
        &self.layer(layer)[slot as usize * stride..][..stride]
    }

    /// Memory of one slot of a layer, writable. Any bytes may be written: kernels read them as keys and values.
    ///
    /// # Panics
    /// If the layer or the slot is out of range.
    pub fn slot_mut(&mut self, layer: usize, slot: u32) -> &mut [u8] {
        let stride = self.slot_stride();
        &mut self.layer_mut(layer)[slot as usize * stride..][..stride]
    }

    /// Copies slot `from` of a layer to slot `to`, for a session that diverges within a page.
    ///
    /// # Panics
    /// If the layer or a slot is out of range.
    pub fn copy_slot(&mut self, layer: usize, from: u32, to: u32) {
        let (from, to) = (from as usize, to as usize);
        assert!(from < self.shape.slots && to < self.shape.slots, "no such page of the KV cache");
        let stride = self.slot_stride();
        let source = from * stride;
        self.layer_mut(layer).copy_within(source..source + stride, to * stride);
    }
}
