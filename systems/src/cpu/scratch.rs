//! Memory that a wave's CPU systems write to. Grows to the largest wave and is kept.

use bevy_ecs::prelude::*;
use weft_platform::{Activations, AttentionScratch};

/// Scratch of a wave on the CPU. A component of the wave.
#[derive(Component, Default)]
pub struct CpuScratch {
    /// Normed rows, `[rows, embedding]`; also what is added to the residual.
    pub normed: Vec<f32>,
    /// Activations as products read them.
    pub activations: Activations,
    /// Queries, keys and values side by side, `[rows, q + k + v]`.
    pub qkv: Vec<f32>,
    /// Attention output, `[rows, heads * value_length]`.
    pub attended: Vec<f32>,
    /// Gate and up side by side, `[rows, 2 * feed_forward]`.
    pub gate_up: Vec<f32>,
    /// Gated rows, `[rows, feed_forward]`.
    pub gated: Vec<f32>,
    /// Cosines of the rows' positions, `[rows, pairs]`.
    pub cos: Vec<f32>,
    /// Sines, as the cosines.
    pub sin: Vec<f32>,
    /// Of the attention kernel.
    pub attention: AttentionScratch,
}

/// The first `len` floats of a buffer, which grows to hold them.
pub fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
