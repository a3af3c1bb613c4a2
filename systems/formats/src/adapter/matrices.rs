//! The matrices of an adapter, sorted by the product of the model that each pair adds to.

use weft_components::{AdapterSite, LowRank};
use weft_platform::CpuMatrix;

/// A pair of matrices, packed for the CPU.
pub struct AdapterPair {
    /// The first output of the product that it adds to.
    pub first: usize,
    /// Factor of the pair's output. The session's scale is multiplied with it.
    pub scale: f32,
    /// Matrix A, `[rank, inputs]`.
    pub down: CpuMatrix,
    /// Matrix B, `[outputs, rank]`.
    pub up: CpuMatrix,
}

/// The pairs of a layer, or of the model outside its layers, indexed by [`AdapterSite`].
type Sites = [Vec<AdapterPair>; AdapterSite::COUNT];

/// All matrices of an adapter.
#[derive(Default)]
pub struct AdapterMatrices {
    layers: Vec<Sites>,
    model: Sites,
}

impl AdapterMatrices {
    /// Makes an empty set for a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| Sites::default()).collect(), model: Sites::default() }
    }

    /// Adds a pair. A pair for a layer that the model does not have is dropped.
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

    /// Returns the pairs for a product of a layer, or of the model outside its layers.
    pub fn pairs(&self, layer: Option<usize>, site: AdapterSite) -> &[AdapterPair] {
        let sites = match layer {
            None => Some(&self.model),
            Some(layer) => self.layers.get(layer),
        };
        sites.map_or(&[], |sites| &sites[site as usize])
    }
}
