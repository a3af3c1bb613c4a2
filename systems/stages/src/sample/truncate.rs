//! Truncation of the candidates: typical, top-p and min-p.
//!
//! Probabilities here are those before temperature, over the candidates that are left, as in llama.cpp's chain. Sums
//! are f64. Each truncation keeps at least one candidate if there was one.

use std::cmp::Ordering;

use super::exp::{below, total_weight, weight};
use super::largest::max;
use super::select::{Candidate, gather, likeliest_first, top_k};

/// Number of candidates below which sorting is cheaper than another halving.
const SORT: usize = 64;
/// The nucleus is searched among this many of the likeliest tokens before the whole vocabulary is searched. In most
/// distributions of language models it is well within.
const FIRST: usize = 256;

/// Reorders `candidates` so that the first in `order` whose weights sum to `enough` come first. Returns their number.
///
/// Halves the range by selection, so only a few are ever sorted: O(n) without a full sort. The order among those kept
/// is unspecified.
fn keep_mass(
    candidates: &mut [Candidate],
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
    weight: impl Fn(&Candidate) -> f64,
    enough: impl Fn(f64) -> bool,
) -> usize {
    let (mut low, mut high) = (0, candidates.len());
    let mut mass = 0.0;
    while high - low > SORT {
        let half = (high - low) / 2;
        let range = &mut candidates[low..high];
        let (first, _, _) = range.select_nth_unstable_by(half, &order);
        let sum: f64 = first.iter().map(&weight).sum();
        if enough(mass + sum) {
            high = low + half;
        } else {
            mass += sum;
            low += half;
        }
    }
    let range = &mut candidates[low..high];
    range.sort_unstable_by(&order);
    for (index, candidate) in range.iter().enumerate() {
        mass += weight(candidate);
        if enough(mass) {
            return low + index + 1;
        }
    }
    high
}

/// Locally typical sampling (Meister et al. 2022): keeps the tokens whose surprise is nearest to the expected one until
/// their probability exceeds `p`. Leaves the candidates sorted, likeliest first.
pub(super) fn typical(candidates: &mut Vec<Candidate>, p: f32) {
    let top = candidates.iter().fold(f32::NEG_INFINITY, |top, candidate| top.max(candidate.logit));
    let weigh = |candidate: &Candidate| f64::from(weight(candidate.logit, top, 1.0));
    let total: f64 = candidates.iter().map(weigh).sum();
    let log_total = total.ln();
    let surprise = |candidate: &Candidate| log_total - f64::from(below(candidate.logit, top));
    // A weight of 0 may come with an infinite surprise. It adds nothing.
    let entropy: f64 = candidates
        .iter()
        .map(|candidate| (weigh(candidate), surprise(candidate)))
        .filter(|&(weight, _)| weight > 0.0)
        .map(|(weight, surprise)| weight / total * surprise)
        .sum();
    let distance = |candidate: &Candidate| (surprise(candidate) - entropy).abs();
    let order = |a: &Candidate, b: &Candidate| {
        distance(a).partial_cmp(&distance(b)).unwrap_or(Ordering::Equal).then(likeliest_first(a, b))
    };
    let target = f64::from(p) * total;
    let kept = keep_mass(candidates, order, weigh, |mass| mass > target);
    candidates.truncate(kept);
    candidates.sort_unstable_by(likeliest_first);
}

/// Nucleus sampling (Holtzman et al. 2019) on sorted candidates: keeps the likeliest until their probability, among
/// these candidates, reaches `p`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f32) {
    let Some(top) = candidates.first().map(|first| first.logit) else {
        return;
    };
    let total: f64 = candidates.iter().map(|candidate| f64::from(weight(candidate.logit, top, 1.0))).sum();
    let kept = prefix(candidates, top, f64::from(p) * total).unwrap_or(candidates.len());
    candidates.truncate(kept);
}

/// Length of the shortest prefix of sorted candidates whose weight reaches `target`. `None` if the sum of all does not.
fn prefix(candidates: &[Candidate], top: f32, target: f64) -> Option<usize> {
    let mut mass = 0.0;
    let last = candidates.iter().position(|candidate| {
        mass += f64::from(weight(candidate.logit, top, 1.0));
        mass >= target
    })?;
    Some(last + 1)
}

/// min-p on sorted candidates: keeps those whose logit is at least the highest plus `log_min_p`, the logarithm of the
/// setting. Always keeps the first.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, log_min_p: f32) {
    let Some(top) = candidates.first().map(|first| first.logit) else {
        return;
    };
    let floor = floor(top, log_min_p);
    candidates.truncate(candidates.partition_point(|candidate| candidate.logit >= floor));
}

/// The lowest logit that min-p keeps. `-inf` if min-p is off (also if the maximum is `+inf`, where the sum would be
/// NaN).
pub(super) fn floor(top: f32, log_min_p: f32) -> f32 {
    if log_min_p == f32::NEG_INFINITY { f32::NEG_INFINITY } else { top + log_min_p }
}

/// Top-p over a whole row without candidates. Fills `out`.
///
/// The nucleus is searched among the likeliest [`FIRST`] tokens. Only a flat distribution needs more. Then candidates
/// below the floor of a later min-p are left out from the start, because both keep a prefix of the same order.
pub(super) fn nucleus(logits: &[f32], p: f32, log_min_p: f32, out: &mut Vec<Candidate>) {
    let top = max(logits);
    let target = f64::from(p) * total_weight(logits, top, 1.0);
    top_k(logits, FIRST, out);
    if let Some(kept) = prefix(out, top, target) {
        out.truncate(kept);
        min_p(out, log_min_p);
        return;
    }
    let floor = floor(top, log_min_p);
    gather(logits, floor, out);
    let weigh = |candidate: &Candidate| f64::from(weight(candidate.logit, top, 1.0));
    let kept = keep_mass(out, likeliest_first, weigh, |mass| mass >= target);
    if kept < out.len() {
        // Restores the order of ids, because a draw depends on the order and the selection algorithm must not change
        // it.
        let last = out.iter().take(kept).max_by(|a, b| likeliest_first(a, b)).copied();
        gather(logits, floor, out);
        if let Some(last) = last {
            out.retain(|candidate| likeliest_first(candidate, &last).is_le());
        }
    } else {
        gather(logits, floor, out);
    }
}

/// Probabilities of candidates under a temperature. They sum to 1.
#[cfg(test)]
pub(super) fn probabilities(candidates: &[Candidate], temperature: f32) -> Vec<(u32, f32)> {
    let top = candidates.iter().fold(f32::NEG_INFINITY, |top, candidate| top.max(candidate.logit));
    let weigh =
        |candidate: &Candidate| super::exp::exp_nonpositive(below(candidate.logit, top) / temperature);
    let total: f64 = candidates.iter().map(|candidate| f64::from(weigh(candidate))).sum();
    candidates
        .iter()
        .map(|candidate| (candidate.token, (f64::from(weigh(candidate)) / total) as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(len: usize, spread: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 12.9898).sin() * spread).collect()
    }

    #[test]
    fn nucleus_of_a_row_is_top_p_of_its_sorted_candidates() {
        for (len, spread) in [(8, 3.0), (300, 0.1), (3000, 0.01), (3000, 20.0), (5000, 2.0)] {
            let logits = row(len, spread);
            for p in [0.0, 0.1, 0.5, 0.9, 0.99, 0.9999] {
                for log_min_p in [f32::NEG_INFINITY, -3.0, -0.005, 0.0] {
                    let mut sorted = Vec::new();
                    top_k(&logits, len, &mut sorted);
                    top_p(&mut sorted, p);
                    min_p(&mut sorted, log_min_p);
                    let mut got = Vec::new();
                    nucleus(&logits, p, log_min_p, &mut got);
                    got.sort_unstable_by(likeliest_first);
                    assert_eq!(got, sorted, "{len} {spread} {p} {log_min_p}");
                }
            }
        }
    }

    #[test]
    fn flat_nucleus_is_in_order_of_ids() {
        let logits = row(4000, 0.01);
        let mut got = Vec::new();
        nucleus(&logits, 0.5, f32::NEG_INFINITY, &mut got);
        assert!(got.len() > FIRST);
        assert!(got.is_sorted_by_key(|candidate| candidate.token));
    }

    #[test]
    fn something_is_always_left() {
        for logits in
            [vec![1.0f32], vec![f32::INFINITY, 1.0, f32::INFINITY], vec![-3e38, 3e38], vec![0.0; 500]]
        {
            let mut candidates = Vec::new();
            top_k(&logits, logits.len(), &mut candidates);
            typical(&mut candidates, 0.0);
            assert!(!candidates.is_empty());
            top_p(&mut candidates, 0.0);
            assert_eq!(candidates.len(), 1);
            min_p(&mut candidates, 0.0);
            assert_eq!(candidates.len(), 1);
        }
    }
}
