//! Adapters: low-rank changes of a model's matrices (LoRA, arXiv 2106.09685), of which each session may use one.
//!
//! A pair of matrices `A [rank, inputs]` and `B [outputs, rank]` adds `scale · B (A x)` to what a product of the model makes of
//! `x`. The model's own weights stay as they are.

use crate::shard::TensorRole;
use bevy_ecs::prelude::*;
use core::ops::Range;

/// A product of the forward path that adapters may add to: projections that share their input are one product, whose outputs lie
/// side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdapterSite {
    /// Queries, keys and values.
    Qkv,
    /// What attention leaves.
    AttentionOutput,
    /// Gate and up projections.
    GateUp,
    /// Down projection.
    Down,
    /// The head. A model's, the others are a layer's.
    Head,
}

impl AdapterSite {
    /// Number of sites: the length of a table indexed by `site as usize`.
    pub const COUNT: usize = Self::Head as usize + 1;

    /// The projections of the product, in the order of their outputs.
    pub fn roles(self) -> &'static [TensorRole] {
        use TensorRole as R;
        match self {
            Self::Qkv => &[R::Query, R::Key, R::Value],
            Self::AttentionOutput => &[R::AttentionOutput],
            Self::GateUp => &[R::FfnGate, R::FfnUp],
            Self::Down => &[R::FfnDown],
            Self::Head => &[R::Output],
        }
    }

    /// The product that a projection is part of, if adapters may add to it.
    pub fn of(role: TensorRole) -> Option<Self> {
        const SITES: [AdapterSite; AdapterSite::COUNT] = [
            AdapterSite::Qkv,
            AdapterSite::AttentionOutput,
            AdapterSite::GateUp,
            AdapterSite::Down,
            AdapterSite::Head,
        ];
        SITES.into_iter().find(|site| site.roles().contains(&role))
    }
}

/// A low-rank pair: what it is added to, and its numbers. The matrices themselves are the backends'.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// What its file calls the matrix that it changes.
    pub name: String,
    /// The layer; `None` where it is the model's.
    pub layer: Option<usize>,
    /// The product that it is added to.
    pub site: AdapterSite,
    /// The first of the product's outputs that it adds to.
    pub first: usize,
    /// Outputs that it adds to; rows of B.
    pub outputs: usize,
    /// Inputs; columns of A.
    pub inputs: usize,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// What its sum is multiplied by, besides the session's own scale: alpha over the rank, for most.
    pub scale: f32,
}

/// A LoRA's matrices per layer.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct Adapter {
    /// What its file is called.
    pub name: String,
    /// Its pairs, in the order of layers and of the products in them; those of the model itself come last.
    pub pairs: Vec<LowRank>,
}

/// The adapters of a model, in the order in which they were loaded.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = AdapterOf, linked_spawn)]
pub struct Adapters(Vec<Entity>);

impl Adapters {
    /// Adapter entities, oldest first.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// An adapter changes this model.
#[derive(Component, Debug)]
#[relationship(relationship_target = Adapters)]
pub struct AdapterOf(pub Entity);

/// The sessions that use an adapter.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = UsesAdapter)]
pub struct AdapterUsers(Vec<Entity>);

impl AdapterUsers {
    /// Session entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// The adapter that a session uses. Without it the session has the plain model.
#[derive(Component, Clone, Copy, Debug)]
#[relationship(relationship_target = AdapterUsers)]
pub struct UsesAdapter {
    /// The adapter.
    #[relationship]
    pub adapter: Entity,
    /// What its sums are multiplied by, besides each pair's own scale.
    pub scale: f32,
}

/// Rows of a wave that use one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptedRows {
    /// The adapter; it may be gone since.
    pub adapter: Entity,
    /// Their places in [`WaveAdapters::rows`] and [`WaveAdapters::scales`].
    pub places: Range<usize>,
}

/// Which rows of a wave use which adapter. All empty where none uses one.
#[derive(Clone, Debug, Default)]
pub struct WaveAdapters {
    /// The adapters, each once.
    pub groups: Vec<AdaptedRows>,
    /// Rows of the wave, those of one adapter together, ascending.
    pub rows: Vec<u32>,
    /// The scale of each of these rows.
    pub scales: Vec<f32>,
}

impl WaveAdapters {
    /// Whether no row uses an adapter.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Forgets all rows, keeping the memory.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.rows.clear();
        self.scales.clear();
    }
}
