//! What waves differ in, as far as kernels care: classes of sizes, and the grids that depend on a wave.

use super::scratch::{BANDED, FEW, PAIR_GROUP};
use weft_gpu::Capabilities;

/// Waves that the same kernels serve, by their number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Up to so many: each weight meets each row's activations in the lane that has read it.
    Few(usize),
    /// Up to so many bands of 16, on cooperative matrices.
    Bands(usize),
    /// As many as there are, in tiles.
    Many,
}

impl Class {
    /// The classes of a device, by size.
    pub(super) fn all(caps: &Capabilities) -> Vec<Self> {
        let few = [1, 4, FEW].map(Self::Few);
        let bands = [1, 2, BANDED / 16].map(Self::Bands);
        few.into_iter().chain(bands.into_iter().filter(|_| caps.cooperative)).chain([Self::Many]).collect()
    }

    /// Most rows of the class.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Few(rows) => rows,
            Self::Bands(bands) => 16 * bands,
            Self::Many => usize::MAX,
        }
    }
}

/// How many workgroups a dimension of a grid has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Fixed(u32),
    Rows,
    RowTiles(u32),
    LogitRows,
    LogitTiles(u32),
    Splits,
    AttentionTiles,
    /// Pairs of a row and one of its experts.
    Pairs {
        used: u32,
    },
    /// Tiles that pairs may be grouped to.
    PairTiles {
        used: u32,
        experts: u32,
    },
}

/// What a wave needs of a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveShape {
    /// Rows.
    pub rows: u32,
    /// Rows whose logits are wanted.
    pub logit_rows: u32,
    /// Parts that each row's context is split into.
    pub splits: u32,
    /// Tiles of rows of one session.
    pub tiles: u32,
    /// How rows attend to their contexts.
    pub attend: Attend,
}

/// How rows attend to their contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attend {
    /// Row by row, a few rows of short contexts.
    #[default]
    Short,
    /// Row by row.
    Direct,
    /// Row by row, each context in several parts, which are merged.
    Split,
    /// In tiles of rows of one session.
    Tiled,
}

impl Extent {
    pub(super) fn of(self, shape: &WaveShape) -> u32 {
        match self {
            Self::Fixed(count) => count,
            Self::Rows => shape.rows,
            Self::RowTiles(tile) => shape.rows.div_ceil(tile),
            Self::LogitRows => shape.logit_rows,
            Self::LogitTiles(tile) => shape.logit_rows.div_ceil(tile),
            Self::Splits => shape.splits,
            Self::AttentionTiles => shape.tiles,
            Self::Pairs { used } => shape.rows * used,
            Self::PairTiles { used, experts } => {
                let pairs = shape.rows * used;
                pairs / PAIR_GROUP as u32 + experts.min(pairs)
            }
        }
    }
}
