//! The plane of scales: groups of one block of 32 columns, or of the eight of a super-block.
//!
//! A group holds the scale of each of the 16 rows, as a [`Head`]; then, where the layout has them, the minimums. In
//! super-blocks these are followed, for each block, by 16 signed bytes for the scale, or twice 16 for that of its halves; and as many
//! for the minimum.

use crate::simd::LANES;
use half::{bf16, f16};
use weft_components::{BlockCodes, CODES, SUPER, ScaleKind, TileLayout};

/// How a scale or a minimum of its own is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Half,
    /// The upper half of a float: powers of two, which MXFP4's scales are, need no more.
    Bf16,
    Float,
}

/// What a group of a layout holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScaleGroup {
    head: Head,
    /// Scales, and minimums.
    heads: usize,
    /// Sets of signed bytes a block and head.
    subs: usize,
    /// Blocks of 32 columns.
    pub(super) blocks: usize,
}

impl ScaleGroup {
    pub(super) fn of(layout: TileLayout) -> Self {
        let (head, subs, blocks) = match layout.scales() {
            ScaleKind::None | ScaleKind::Half => (Head::Half, 0, 1),
            ScaleKind::Float if layout == TileLayout::T4Float => (Head::Bf16, 0, 1),
            ScaleKind::Float => (Head::Float, 0, 1),
            // The ternary formats have nothing but the super-block's scale.
            ScaleKind::Super if layout == TileLayout::U2Super => (Head::Half, 0, SUPER / CODES),
            ScaleKind::Super => (Head::Half, 1, SUPER / CODES),
            ScaleKind::SuperHalves => (Head::Half, 2, SUPER / CODES),
        };
        Self { head, heads: if layout.codes().min { 2 } else { 1 }, subs, blocks }
    }

    /// Bytes of a head.
    fn size(self) -> usize {
        if self.head == Head::Float { 4 } else { 2 }
    }

    /// Bytes of a group.
    pub(super) fn bytes(self) -> usize {
        self.heads * LANES * (self.size() + self.blocks * self.subs)
    }

    /// Where the signed byte `sub` of a block's head is, from the start of its group.
    fn sub(self, block: usize, head: usize, sub: usize, lane: usize) -> usize {
        let sets = (block % self.blocks * self.heads + head) * self.subs + sub;
        self.heads * LANES * self.size() + sets * LANES + lane
    }

    /// Stores the scales of block `block` of row `lane` of a tile.
    pub(super) fn store(self, tile: &mut [u8], block: usize, lane: usize, codes: &BlockCodes) {
        let group = &mut tile[block / self.blocks * self.bytes()..][..self.bytes()];
        let heads = [(codes.scale, codes.sub_scale), (codes.min, codes.sub_min)];
        for (head, (scale, subs)) in heads.into_iter().take(self.heads).enumerate() {
            let place = &mut group[(head * LANES + lane) * self.size()..][..self.size()];
            match self.head {
                Head::Half => place.copy_from_slice(&f16::from_f32(scale).to_ne_bytes()),
                Head::Bf16 => place.copy_from_slice(&bf16::from_f32(scale).to_ne_bytes()),
                Head::Float => place.copy_from_slice(&scale.to_ne_bytes()),
            }
            for (sub, value) in subs.into_iter().take(self.subs).enumerate() {
                group[self.sub(block, head, sub, lane)] = value.cast_unsigned();
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
