//! The plane of scales, in groups of one block of 32 columns, or of the eight blocks of a super-block.
//!
//! A group contains the scale of each of the 16 rows, as a [`Head`], then the minimums if the layout has them. In
//! super-blocks these are followed, for each block, by 16 signed bytes for the scale, or twice 16 for the scales of its
//! halves, and as many for the minimum.

use crate::simd::{LANES, Simd};
use half::{bf16, f16};
use weft_components::{BlockCodes, CODES, SUPER, ScaleKind, TileLayout};

/// Storage format of a scale or a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Half,
    /// The upper half of an f32, which is enough for powers of two such as MXFP4's scales.
    Bf16,
    Float,
}

/// The contents of a group of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScaleGroup {
    head: Head,
    /// Number of heads per row: 1 for scales only, 2 with minimums.
    heads: usize,
    /// Sets of signed bytes per block and head.
    subs: usize,
    /// Blocks of 32 columns.
    pub(crate) blocks: usize,
}

impl ScaleGroup {
    pub(crate) const fn of(layout: TileLayout) -> Self {
        let (head, subs, blocks) = match layout.scales() {
            ScaleKind::None | ScaleKind::Half => (Head::Half, 0, 1),
            ScaleKind::Float if matches!(layout, TileLayout::T4Float) => (Head::Bf16, 0, 1),
            ScaleKind::Float => (Head::Float, 0, 1),
            // The ternary formats have only the super-block's scale.
            ScaleKind::Super if matches!(layout, TileLayout::U2Super) => (Head::Half, 0, SUPER / CODES),
            ScaleKind::Super => (Head::Half, 1, SUPER / CODES),
            ScaleKind::SuperHalves => (Head::Half, 2, SUPER / CODES),
        };
        Self { head, heads: if layout.codes().min { 2 } else { 1 }, subs, blocks }
    }

    /// Bytes of a head.
    #[inline(always)]
    fn size(self) -> usize {
        if self.head == Head::Float { 4 } else { 2 }
    }

    /// Bytes of a group.
    #[inline(always)]
    pub(crate) fn bytes(self) -> usize {
        self.heads * LANES * (self.size() + self.blocks * self.subs)
    }

    /// Offset of the signed byte `sub` of a block's head from the start of its group.
    #[inline(always)]
    fn sub(self, block: usize, head: usize, sub: usize, lane: usize) -> usize {
        let sets = (block % self.blocks * self.heads + head) * self.subs + sub;
        self.heads * LANES * self.size() + sets * LANES + lane
    }

    /// Stores the factors of the scale and the minimum in each half of block `block` of row `lane`.
    #[inline(always)]
    pub(crate) fn store_subs(self, group: &mut [u8], block: usize, lane: usize, subs: [[i8; 2]; 2]) {
        for (head, subs) in subs.into_iter().enumerate().take(self.heads) {
            for (sub, value) in subs.into_iter().enumerate().take(self.subs) {
                group[self.sub(block, head, sub, lane)] = value.cast_unsigned();
            }
        }
    }

    /// Stores the scales and minimums of a group.
    #[inline(always)]
    pub(crate) fn store_heads<S: Simd>(self, s: S, group: &mut [u8], heads: &[[f32; LANES]; 2]) {
        let places = group.chunks_exact_mut(LANES * self.size());
        for (place, values) in places.zip(heads).take(self.heads) {
            match self.head {
                Head::Half => {
                    let mut halves = [0u16; LANES];
                    s.store_f16(s.load(values), &mut halves);
                    place.copy_from_slice(bytemuck::cast_slice(&halves));
                }
                Head::Bf16 => {
                    for (place, value) in place.as_chunks_mut().0.iter_mut().zip(values) {
                        *place = bf16::from_f32(*value).to_ne_bytes();
                    }
                }
                Head::Float => place.copy_from_slice(bytemuck::cast_slice(values)),
            }
        }
    }

    /// The scales of block `block` of row `lane` of a tile, without codes.
    pub(super) fn load(self, tile: &[u8], block: usize, lane: usize) -> BlockCodes {
        let group = &tile[block / self.blocks * self.bytes()..][..self.bytes()];
        let head = |head: usize| {
            let place = &group[(head * LANES + lane) * self.size()..][..self.size()];
            let scale = match (self.head, place) {
                (Head::Half, [a, b, ..]) => f16::from_ne_bytes([*a, *b]).to_f32(),
                (Head::Bf16, [a, b, ..]) => bf16::from_ne_bytes([*a, *b]).to_f32(),
                (_, place) => place.first_chunk().map_or(0.0, |bytes| f32::from_ne_bytes(*bytes)),
            };
            let sub = |sub: usize| group[self.sub(block, head, sub, lane)].cast_signed();
            let subs = match self.subs {
                0 => [1; 2],
                subs => [sub(0), sub(subs - 1)],
            };
            (scale, subs)
        };
        let mut codes = BlockCodes::default();
        (codes.scale, codes.sub_scale) = head(0);
        if self.heads > 1 {
            (codes.min, codes.sub_min) = head(1);
        }
        codes
    }
}
