//! Adapters: low-rank changes of a model's matrices (LoRA, arXiv 2106.09685). Each session may use one.
//!
//! For a product of the model with input `x`, a pair of matrices `A [rank, inputs]` and `B [outputs, rank]` adds `scale
//! · B (A x)` to the output. The model's own weights do not change.

use crate::shard::TensorRole;
use bevy_ecs::prelude::*;
use core::ops::Range;

/// A product of the forward pass that adapters may add to. Projections that share their input are one product, whose
/// outputs lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdapterSite {
    /// Queries, keys and values.
    Qkv,
    /// The output projection of attention.
    AttentionOutput,
    /// Gate and up projections.
    GateUp,
    /// Down projection.
    Down,
    /// The head. It belongs to the model, the other sites to a layer.
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

    /// The product that a projection is part of. `None` if adapters cannot add to it.
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

/// A low-rank pair: where it is added, and its sizes. Backends hold the matrices themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Name of the changed matrix in the adapter's file.
    pub name: String,
    /// The layer. `None` for a matrix of the model itself.
    pub layer: Option<usize>,
    /// The product that it is added to.
    pub site: AdapterSite,
    /// The first output of the product that the pair adds to.
    pub first: usize,
    /// Number of outputs that the pair adds to: rows of B.
    pub outputs: usize,
    /// Number of inputs: columns of A.
    pub inputs: usize,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Factor of the sum, besides the session's own scale. For most files it is alpha divided by the rank.
    pub scale: f32,
}

/// An adapter of a model.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Name of its file.
    pub name: String,
    /// Its pairs, ordered by layer and by product within a layer. Those of the model itself come last.
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

/// Names the model that an adapter changes.
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

/// Names the adapter that a session uses. A session without it uses the plain model.
#[derive(Component, Clone, Copy, Debug)]
#[relationship(relationship_target = AdapterUsers)]
pub struct UsesAdapter {
    /// The adapter.
    #[relationship]
    pub adapter: Entity,
    /// Factor of the adapter's sums, besides each pair's own scale.
    pub scale: f32,
}

/// Rows of a wave that use one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptedRows {
    /// The adapter. It may have been despawned since.
    pub adapter: Entity,
    /// Their range in [`WaveAdapters::rows`] and [`WaveAdapters::scales`].
    pub places: Range<usize>,
}

/// Which rows of a wave use which adapter. All lists are empty if none uses one.
#[derive(Clone, Debug, Default)]
pub struct WaveAdapters {
    /// The adapters, each once.
    pub groups: Vec<AdaptedRows>,
    /// Rows of the wave, grouped by adapter, ascending within a group.
    pub rows: Vec<u32>,
    /// The scale of each of these rows.
    pub scales: Vec<f32>,
}

impl WaveAdapters {
    /// Returns true if no row uses an adapter.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.rows.clear();
        self.scales.clear();
    }
}
