//! How waves differ for kernels: classes of sizes, and the grids that depend on a wave.

use super::scratch::{BANDED, FEW, PAIR_GROUP};
use weft_components::Wave;
use weft_gpu::Capabilities;
use weft_gpu::StepShape;

/// Waves that the same kernels serve, by their number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Up to this many rows. The lane that reads a weight multiplies it with each row's activations.
    Few(usize),
    /// Up to this many bands of 16 rows, on cooperative matrices.
    Bands(usize),
    /// Any number of rows, in tiles.
    Many,
}

impl Class {
    /// The classes of a device, by size.
    pub(super) fn all(caps: &Capabilities) -> Vec<Self> {
        let few = [1, 4, FEW].map(Self::Few);
        let bands = [1, 2, BANDED / 16].map(Self::Bands);
        few.into_iter().chain(bands.into_iter().filter(|_| caps.cooperative)).chain([Self::Many]).collect()
    }

    /// Largest number of rows of the class.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Few(rows) => rows,
            Self::Bands(bands) => 16 * bands,
            Self::Many => usize::MAX,
        }
    }
}

/// The number of workgroups along a dimension of a grid.
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
    /// Tiles that pairs may be grouped into.
    PairTiles {
        used: u32,
        experts: u32,
    },
}

/// The sizes of a wave that grids depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveShape {
    /// Rows.
    pub rows: u32,
    /// Rows whose logits are wanted.
    pub logit_rows: u32,
    /// Number of splits of each row's context.
    pub splits: u32,
    /// Tiles of rows of one session.
    pub tiles: u32,
    /// How rows attend to their contexts.
    pub attend: Attend,
}

/// How rows attend to their contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attend {
    /// Row by row, for a few rows with short contexts.
    #[default]
    Short,
    /// Row by row.
    Direct,
    /// Row by row. Each context is split, and the results are merged.
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

/// The properties of a wave that the work of its step depends on.
pub(super) fn shape_of(wave: &Wave) -> StepShape {
    let (mut cached, mut attended) = (0, 0);
    for span in &wave.spans {
        let (start, rows) = (span.start as u64, span.rows.len() as u64);
        cached += start + rows;
        attended += rows * start + rows * (rows + 1) / 2;
    }
    StepShape { rows: wave.rows() as u32, logit_rows: wave.logit_rows.len() as u32, cached, attended }
}
