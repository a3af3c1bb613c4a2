//! Log-probabilities as the OpenAI API reports them: of the raw logits, before any step of the sampler.

use weft_components::TokenLogprob;

use super::exp::{below, total_weight};
use super::largest::max;
use super::select::{Candidate, top_k};

/// Logarithm of the sum of the exponentials of a row, relative to its maximum: `(max, ln Σ e^(x - max))`.
fn log_sum(logits: &[f32]) -> (f32, f64) {
    let top = max(logits);
    (top, total_weight(logits, top, 1.0).ln())
}

/// `ln softmax` of one logit, given the row's [`log_sum`].
fn log_probability(logit: f32, (top, log_sum): (f32, f64)) -> f32 {
    if logit > f32::NEG_INFINITY {
        (f64::from(below(logit, top)) - log_sum) as f32
    } else {
        f32::NEG_INFINITY
    }
}

/// Log-probability of one token under raw logits `[vocab]`. `-inf` for a token outside the row.
#[must_use]
pub fn token_logprob(logits: &[f32], token: u32) -> f32 {
    logit_of(logits, token).map_or(f32::NEG_INFINITY, |logit| log_probability(logit, log_sum(logits)))
}

fn logit_of(logits: &[f32], token: u32) -> Option<f32> {
    logits.get(usize::try_from(token).ok()?).copied()
}

/// The report on `token` with `count` alternatives. `candidates` is scratch memory.
pub(super) fn report(
    logits: &[f32],
    token: u32,
    count: usize,
    candidates: &mut Vec<Candidate>,
) -> TokenLogprob {
    let sum = log_sum(logits);
    top_k(logits, count, candidates);
    TokenLogprob {
        token,
        logprob: logit_of(logits, token).map_or(f32::NEG_INFINITY, |logit| log_probability(logit, sum)),
        top: candidates.iter().map(|found| (found.token, log_probability(found.logit, sum))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_f64() {
        let logits: Vec<f32> = (0..3000).map(|i| (i as f32 * 0.73).sin() * 15.0).collect();
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        for (token, &x) in logits.iter().enumerate() {
            let exact = f64::from(x) - sum.ln();
            let found = token_logprob(&logits, token as u32);
            // Half a unit in the last place of an f32 of this size, plus 2e-7 for the sum.
            assert!((f64::from(found) - exact).abs() < 4e-6, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn masked_rows() {
        let row = [f32::NAN, f32::NEG_INFINITY, 2.0];
        let found = [0, 1, 2].map(|token| token_logprob(&row, token));
        assert_eq!(found, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
        assert_eq!(token_logprob(&[f32::NAN, f32::NEG_INFINITY], 1), f32::NEG_INFINITY);
        assert_eq!(token_logprob(&[], 0), f32::NEG_INFINITY);
        assert_eq!(token_logprob(&[1.0], 7), f32::NEG_INFINITY);
        let mut candidates = Vec::new();
        let told = report(&[f32::NAN, 1.0, f32::NEG_INFINITY], 1, 5, &mut candidates);
        assert_eq!(told, TokenLogprob { token: 1, logprob: 0.0, top: vec![(1, 0.0)] });
    }
}
