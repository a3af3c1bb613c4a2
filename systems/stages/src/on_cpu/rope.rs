//! Rotary position embedding: the angles of a wave's rows.
//!
//! Angle of pair `i` at position `p`: `p * scale * base^(-2i/n) / factor[i]` (RoFormer, arXiv 2104.09864; the factors
//! are Llama 3.1's and longrope's, arXiv 2402.13753). YaRN (arXiv 2309.00071) does not scale pairs that rotate fast.
//! Computed in `f64` once for each row of a wave.

use core::f64::consts::TAU;
use weft_components::{RopeConfig, RopeStyle, Yarn};

/// Angular frequencies of a model, or of some of its layers.
#[derive(Clone)]
pub struct RopeTable {
    /// How dimensions are paired.
    pub style: RopeStyle,
    /// Factor of cosines and sines.
    pub magnitude: f32,
    frequencies: Vec<f64>,
}

impl RopeTable {
    /// Frequencies of a configuration, divided by `factors` if the model has them.
    pub fn new(config: &RopeConfig, factors: Option<&[f32]>) -> Self {
        let n = config.dimensions as f64;
        let scale = f64::from(config.position_scale);
        let frequency = |pair: usize| {
            let factor = factors.and_then(|factors| factors.get(pair)).copied().unwrap_or(1.0);
            let plain = f64::from(config.base).powf(-2.0 * pair as f64 / n) / f64::from(factor);
            let kept = config.yarn.as_ref().map_or(0.0, |yarn| kept(yarn, config, pair));
            plain * (scale * (1.0 - kept) + kept)
        };
        let frequencies = (0..config.dimensions / 2).map(frequency).collect();
        Self { style: config.style, magnitude: config.magnitude, frequencies }
    }

    /// Number of rotated pairs.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Appends cosines and sines for each position, times the magnitude: `[positions, pairs]` each.
    pub fn fill(&self, positions: &[u32], cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        let magnitude = f64::from(self.magnitude);
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = (f64::from(*position) * frequency).sin_cos();
                cos.push((c * magnitude) as f32);
                sin.push((s * magnitude) as f32);
            }
        }
    }
}

/// The share of its plain frequency that a pair keeps: all if it rotates `beta_fast` times or more over the original
/// context, none if it rotates `beta_slow` times or less, and linear in the pair's index in between.
fn kept(yarn: &Yarn, config: &RopeConfig, pair: usize) -> f64 {
    let n = config.dimensions as f64;
    // The index of the pair that rotates this many times.
    let pair_of = |turns: f32| {
        let context = f64::from(yarn.original_context);
        n * (context / (f64::from(turns) * TAU)).ln() / (2.0 * f64::from(config.base).ln())
    };
    let first = pair_of(yarn.beta_fast).floor().max(0.0);
    let last = pair_of(yarn.beta_slow).ceil().min(n - 1.0);
    let along = (pair as f64 - first) / (last - first).max(1e-3);
    (1.0 - along.clamp(0.0, 1.0)) * f64::from(yarn.extrapolation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_components::RopeFactors;

    fn config(dimensions: usize, factor: f32, yarn: Option<Yarn>) -> RopeConfig {
        RopeConfig {
            style: RopeStyle::Half,
            base: 10_000.0,
            dimensions,
            position_scale: 1.0 / factor,
            factors: RopeFactors::None,
            yarn,
            magnitude: 1.0,
        }
    }

    /// From `ROPE_INIT_FUNCTIONS["yarn"]` of transformers 5.24 for heads of 64, factor 4, an original context of 256.
    #[test]
    fn yarn_keeps_fast_pairs_and_scales_slow_ones() {
        const WANTED: [(usize, f64); 10] = [
            (0, 1.0),
            (3, 0.348_710_6),
            (5, 0.168_732_35),
            (7, 0.079_498_395),
            (9, 0.036_052_603),
            (11, 0.015_408_141),
            (13, 0.005_928_434),
            (17, 0.001_874_735_6),
            (20, 7.905_694_7e-4),
            (31, 3.333_803_8e-5),
        ];
        let yarn = Yarn { original_context: 256.0, extrapolation: 1.0, beta_fast: 32.0, beta_slow: 1.0 };
        let found = RopeTable::new(&config(64, 4.0, Some(yarn)), None).frequencies;
        let plain = RopeTable::new(&config(64, 1.0, None), None).frequencies;
        for (pair, wanted) in WANTED {
            let error = (found[pair] / wanted - 1.0).abs();
            assert!(error < 1e-6, "{pair}: {} {wanted} (plain {})", found[pair], plain[pair]);
        }
    }

    #[test]
    fn factors_divide_and_the_magnitude_multiplies() {
        let config = RopeConfig { magnitude: 1.5, ..config(4, 2.0, None) };
        let table = RopeTable::new(&config, Some(&[1.0, 5.0]));
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        table.fill(&[0, 3], &mut cos, &mut sin);
        let angles = [0.0f64, 0.0, 3.0 / 2.0, 3.0 / 2.0 / 100.0 / 5.0];
        for (i, angle) in angles.iter().enumerate() {
            assert!((f64::from(cos[i]) - 1.5 * angle.cos()).abs() < 1e-6, "{i}");
            assert!((f64::from(sin[i]) - 1.5 * angle.sin()).abs() < 1e-6, "{i}");
        }
    }

    #[test]
    fn odd_numbers_give_no_panic() {
        for (base, context) in [(1.0, 256.0), (0.0, 0.0), (0.5, 1.0), (f32::MAX, f32::MAX)] {
            let yarn = Yarn { original_context: context, extrapolation: 1.0, beta_fast: 0.0, beta_slow: 0.0 };
            let config = RopeConfig { base, ..config(8, 4.0, Some(yarn)) };
            RopeTable::new(&config, Some(&[0.0])).fill(&[u32::MAX], &mut Vec::new(), &mut Vec::new());
        }
    }
}
