//! The matrices of an adapter, by the product of the model that each pair adds to.

use weft_components::{AdapterSite, LowRank};
use weft_platform::CpuMatrix;

/// A pair as the CPU multiplies it.
pub struct AdapterPair {
    /// The first output that it adds to.
    pub first: usize,
    /// What its sum is multiplied by, besides the session's scale.
    pub scale: f32,
    /// `[rank, inputs]`.
    pub down: CpuMatrix,
    /// `[outputs, rank]`.
    pub up: CpuMatrix,
}

/// Pairs of a layer, or of the model itself, by [`AdapterSite`].
type Sites = [Vec<AdapterPair>; AdapterSite::COUNT];

/// The matrices of an adapter.
#[derive(Default)]
pub struct AdapterMatrices {
    layers: Vec<Sites>,
    model: Sites,
}

impl AdapterMatrices {
    /// Room for those of a model of so many layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| Sites::default()).collect(), model: Sites::default() }
    }

    /// Adds a pair. One of a layer that the model does not have is left out.
    pub fn push(&mut self, pair: &LowRank, down: CpuMatrix, up: CpuMatrix) {
        let sites = match pair.layer {
            None => Some(&mut self.model),
            Some(layer) => self.layers.get_mut(layer),
        };
        if let Some(sites) = sites {
            let LowRank { first, scale, .. } = *pair;
            sites[pair.site as usize].push(AdapterPair { first, scale, down, up });
        }
    }

    /// The pairs of a product of a layer, or of the model itself.
    pub fn pairs(&self, layer: Option<usize>, site: AdapterSite) -> &[AdapterPair] {
        let sites = match layer {
            None => Some(&self.model),
            Some(layer) => self.layers.get(layer),
        };
        sites.map_or(&[], |sites| &sites[site as usize])
    }
}
