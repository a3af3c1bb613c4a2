//! Rotary position embedding: the angles of a wave's rows.
//!
//! Angle of pair `i` at position `p`: `p * scale * base^(-2i/n) / factor[i]` (RoFormer, arXiv 2104.09864; the
//! factors are Llama 3.1's). Computed in `f64` once for each row of a wave.

use weft_components::{RopeConfig, RopeStyle};

/// Angular frequencies of a model.
pub struct RopeTable {
    /// How dimensions pair.
    pub style: RopeStyle,
    frequencies: Vec<f64>,
}

impl RopeTable {
    /// Frequencies of a configuration, divided by `factors` where the model has them.
    pub fn new(config: &RopeConfig, factors: Option<&[f32]>) -> Self {
        let n = config.dimensions as f64;
        let frequency = |pair: usize| {
            let factor = factors.and_then(|factors| factors.get(pair)).copied().unwrap_or(1.0);
            f64::from(config.position_scale) * f64::from(config.base).powf(-2.0 * pair as f64 / n)
                / f64::from(factor)
        };
        let frequencies = (0..config.dimensions / 2).map(frequency).collect();
        Self { style: config.style, frequencies }
    }

    /// Pairs that turn.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Writes cosines and sines for each position: `[positions, pairs]` each.
    pub fn fill(&self, positions: &[u32], cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.clear();
        sin.clear();
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = (f64::from(*position) * frequency).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
    }
}
