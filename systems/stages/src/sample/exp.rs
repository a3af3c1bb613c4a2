//! The exponential of non-positive f32, and sums of it over a row of logits.
//!
//! It does not use the platform's libm for two reasons: a loop over this code vectorizes, and its bits are the same on
//! x86, ARM and WASM, so a seed gives the same text everywhere. Relative error below 2e-7 (tested).

/// Elements summed in f32 lanes before their sum is added in f64.
pub(super) const BLOCK: usize = 256;
/// Independent f32 sums within a block: enough for any vector width. 16 additions for each lane keep rounding errors
/// small.
const LANES: usize = 16;
/// Below this the result would be a denormal; it is 0 instead.
const LOWEST: f32 = -87.0;
/// 1.5 · 2^23: adding it to a small f32 leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 split in two, the first part (355/512) exact in few bits (Cody and Waite's reduction, constants of Cephes `expf`).
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` for `x` in `[-inf, 0]`; 0 for NaN and below -87.
#[inline(always)]
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    let inside = x.max(LOWEST);
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = inside - power * LN2_HIGH - power * LN2_LOW;
    // Minimax polynomial of (e^r - 1 - r) / r² on ±ln2/2, from Cephes `expf`.
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    // `power` is in -126..=0 here, so the biased exponent stays in 1..=127.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let value = mantissa * f32::from_bits(exponent << 23);
    if x >= LOWEST { value } else { 0.0 }
}

/// `logit - max`, but 0 for the maximum itself even if both are `+inf`.
#[inline(always)]
pub(super) fn below(logit: f32, max: f32) -> f32 {
    if logit == max { 0.0 } else { logit - max }
}

/// Unnormalized probability `e^((logit - max) / temperature)`, 1 for the maximum.
#[inline(always)]
pub(super) fn weight(logit: f32, max: f32, temperature: f32) -> f32 {
    exp_nonpositive(below(logit, max) / temperature)
}

/// Sum of [`weight`] over at most [`BLOCK`] logits.
pub(super) fn block_weight(logits: &[f32], max: f32, temperature: f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += weight(logit, max, temperature);
        }
    }
    let mut sum: f64 =
        chunks.remainder().iter().map(|&logit| f64::from(weight(logit, max, temperature))).sum();
    for lane in lanes {
        sum += f64::from(lane);
    }
    sum
}

/// Sum of [`weight`] over a row: the softmax's denominator, relative to its maximum.
pub(super) fn total_weight(logits: &[f32], max: f32, temperature: f32) -> f64 {
    logits.chunks(BLOCK).map(|block| block_weight(block, max, temperature)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_within_2e7_of_f64() {
        let mut worst = 0.0f64;
        for i in 0..=870_000u32 {
            let x = -(i as f32) * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_nonpositive(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
    }

    #[test]
    fn edges() {
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-0.0), 1.0);
        for x in [f32::NEG_INFINITY, f32::NAN, -87.1, -1e30] {
            assert_eq!(exp_nonpositive(x), 0.0, "{x}");
        }
        assert_eq!(weight(f32::INFINITY, f32::INFINITY, 1.0), 1.0);
        assert_eq!(weight(3.0, f32::INFINITY, 1.0), 0.0);
        assert_eq!(weight(3.0, 3.0, f32::from_bits(1)), 1.0);
    }

    #[test]
    fn sums_agree_with_f64() {
        for len in [0usize, 1, 15, 16, 17, 255, 256, 257, 5000] {
            let logits: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin() * 8.0).collect();
            let exact: f64 = logits.iter().map(|&x| ((f64::from(x) - 8.0) / 0.7).exp()).sum();
            let got = total_weight(&logits, 8.0, 0.7);
            assert!((got - exact).abs() <= 2e-6 * exact, "{len}: {got} {exact}");
        }
    }
}
