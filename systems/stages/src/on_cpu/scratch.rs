//! Scratch memory that a wave's CPU systems write to. It grows to the largest wave and is kept.

use super::rope::RopeTable;
use bevy_ecs::prelude::*;
use weft_platform::{Activations, AttentionScratch};

/// Scratch of a wave on the CPU. A component of the wave.
#[derive(Component, Default)]
pub struct CpuScratch {
    /// Normed rows, `[rows, embedding]`. Also the output that is added to the residual.
    pub normed: Vec<f32>,
    /// Activations in the form that products read.
    pub activations: Activations,
    /// Queries, keys and values side by side, `[rows, q + k + v]`.
    pub qkv: Vec<f32>,
    /// Attention output, `[rows, heads * value_length]`.
    pub attended: Vec<f32>,
    /// Gate and up side by side, `[rows, 2 * feed_forward]`.
    pub gate_up: Vec<f32>,
    /// Gated rows, `[rows, feed_forward]`.
    pub gated: Vec<f32>,
    /// Scratch of layers with experts.
    pub experts: ExpertScratch,
    /// Cosines of the rows' positions, `[tables, rows, pairs]`.
    pub cos: Vec<f32>,
    /// Sines, as the cosines.
    pub sin: Vec<f32>,
    /// Scratch of the attention kernel.
    pub attention: AttentionScratch,
    /// Scratch of rows that use adapters.
    pub adapters: AdapterScratch,
}

impl CpuScratch {
    /// Computes the angles of rotary embedding of a wave's rows, which have these positions.
    pub fn turn(&mut self, ropes: &[RopeTable], positions: &[u32]) {
        self.cos.clear();
        self.sin.clear();
        for rope in ropes {
            rope.fill(positions, &mut self.cos, &mut self.sin);
        }
    }
}

/// Scratch for the rows of one adapter.
#[derive(Default)]
pub struct AdapterScratch {
    /// Their indices among the rows of a product.
    pub places: Vec<usize>,
    /// Their scales.
    pub scales: Vec<f32>,
    /// Their inputs, `[rows, inputs]`.
    pub rows: Vec<f32>,
    /// The product of A with the inputs, `[rows, ranks]`.
    pub low: Vec<f32>,
    /// The product of B with that, `[rows, outputs]`.
    pub sums: Vec<f32>,
}

/// Scratch for routing rows to experts.
#[derive(Default)]
pub struct ExpertScratch {
    /// Scores of experts, then their probabilities, `[rows, experts]`.
    pub scores: Vec<f32>,
    /// Weight of the shared expert, `[rows]`.
    pub shared: Vec<f32>,
    /// The experts chosen for rows, `[rows, used]`.
    pub routes: Vec<Route>,
    /// Where each expert's rows start in `routed`, `[experts + 1]`.
    pub starts: Vec<usize>,
    /// Indices into `routes`, grouped by expert, ascending within an expert.
    pub routed: Vec<u32>,
    /// Rows of one expert, `[rows, embedding]`, then its outputs.
    pub rows: Vec<f32>,
    /// The sum over experts, `[rows, embedding]`.
    pub sum: Vec<f32>,
}

/// An expert chosen for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Route {
    /// Its index.
    pub expert: u32,
    /// Factor of its output.
    pub share: f32,
}

/// The first `len` floats of a buffer. The buffer grows if it is shorter.
pub fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
