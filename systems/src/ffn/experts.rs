//! Experts: a router scores them, each row goes through the best few, and what these make of it is summed with their weights
//! (arXiv 1701.06538; Mixtral, arXiv 2401.04088). One more expert, where there is one, takes every row.
//!
//! Rows are grouped by expert, so that a wave reads each expert's weights at most once. Invariant: a row's sum has the shared
//! expert first and then its experts in the order of their numbers, so that it does not depend on the rows beside it.

use super::{Gates, Network};
use crate::cpu::{self, ExpertScratch, Weights, sized};
use weft_components::{ExpertConfig, TensorRole as Role};
use weft_platform::{Cpu, Need};

/// Replaces rows of hidden state by what the experts make of them. Whether the layer has what it takes; rows are spoilt where it
/// does not.
pub(super) fn mix(
    gates: &mut Gates<'_>,
    experts: &ExpertConfig,
    weights: &Weights,
    rows: &mut [f32],
    scratch: &mut ExpertScratch,
) -> bool {
    let Some(router) = weights.matrix(Role::Router) else { return false };
    let (cpu, width) = (gates.cpu, gates.config.embedding);
    let count = rows.len() / width.max(1);
    let ExpertScratch { scores, shared, chosen, weights: shares, starts, routed, rows: gathered, sum } =
        scratch;

    let scores = sized(scores, count * experts.count);
    gates.load(rows, Need::of(&[router]));
    cpu::product(cpu, &[router], gates.activations, scores, experts.count);
    choose(cpu, experts, scores, chosen, shares);
    group(experts, chosen, starts, routed);

    let sum = sized(sum, rows.len());
    if !share(gates, weights, experts, rows, sized(shared, count), sum) {
        return false;
    }
    sized(gathered, rows.len());
    for (expert, range) in starts.windows(2).enumerate() {
        let places = &routed[range[0]..range[1]];
        if places.is_empty() {
            continue;
        }
        let Some(matrices) = weights.expert(expert) else { return false };
        let gathered = sized(gathered, places.len() * width);
        for (place, out) in places.iter().zip(gathered.chunks_exact_mut(width)) {
            out.copy_from_slice(&rows[*place as usize / experts.used * width..][..width]);
        }
        let network = Network::plain(matrices);
        gates.reserve(&network, count);
        gates.load(gathered, Need::of(&[matrices[0], matrices[1]]));
        gates.run(&network, None, gathered);
        let _kernel = tracing::trace_span!(target: "weft::kernel", "add").entered();
        for (place, made) in places.iter().zip(gathered.chunks_exact(width)) {
            let (row, share) = (*place as usize / experts.used, shares[*place as usize]);
            cpu.kernels.add_scaled(&mut sum[row * width..][..width], made, share);
        }
    }
    rows.copy_from_slice(sum);
    true
}

/// Starts the sum with the shared expert's part, or with zeros where there is none.
fn share(
    gates: &mut Gates<'_>,
    weights: &Weights,
    experts: &ExpertConfig,
    rows: &[f32],
    shares: &mut [f32],
    sum: &mut [f32],
) -> bool {
    if experts.shared_feed_forward == 0 {
        sum.fill(0.0);
        return true;
    }
    let matrix = |role| weights.matrix(role);
    let (Some(gate), Some(up), Some(down)) =
        (matrix(Role::SharedGate), matrix(Role::SharedUp), matrix(Role::SharedDown))
    else {
        return false;
    };
    let (cpu, width) = (gates.cpu, gates.config.embedding);
    // Where nothing weighs it, it counts in full.
    let router = weights.matrix(Role::SharedRouter);
    if let Some(router) = router {
        gates.load(rows, Need::of(&[router]));
        cpu::product(cpu, &[router], gates.activations, shares, 1);
        cpu.kernels.sigmoid(shares);
    }
    gates.load(rows, Need::of(&[gate, up]));
    gates.run(&Network::plain([gate, up, down]), None, sum);
    if router.is_some() {
        for (row, share) in sum.chunks_exact_mut(width).zip(&*shares) {
            cpu.kernels.scale(row, *share);
        }
    }
    true
}

/// Each row's best experts and their weights, best first; of equals the first.
fn choose(
    cpu: &Cpu,
    experts: &ExpertConfig,
    scores: &mut [f32],
    chosen: &mut Vec<u32>,
    shares: &mut Vec<f32>,
) {
    /// What no probability is.
    const TAKEN: f32 = -1.0;
    chosen.clear();
    shares.clear();
    for row in scores.chunks_exact_mut(experts.count.max(1)) {
        cpu.kernels.softmax(row);
        let first = shares.len();
        for _ in 0..experts.used {
            let mut best: Option<usize> = None;
            for (expert, share) in row.iter().enumerate() {
                if *share != TAKEN && best.is_none_or(|best| *share > row[best]) {
                    best = Some(expert);
                }
            }
            // As many are used as there are at most, so one is left.
            let best = best.unwrap_or(0);
            chosen.push(best as u32);
            shares.push(row[best]);
            row[best] = TAKEN;
        }
        let shares = &mut shares[first..];
        let sum: f32 = if experts.normalise { shares.iter().sum() } else { 1.0 };
        shares.iter_mut().for_each(|share| *share = *share / sum * experts.weight_scale);
    }
}

/// Lists the places of `chosen` by expert, ascending within each.
fn group(experts: &ExpertConfig, chosen: &[u32], starts: &mut Vec<usize>, routed: &mut Vec<u32>) {
    starts.clear();
    starts.resize(experts.count + 1, 0);
    for expert in chosen {
        starts[*expert as usize + 1] += 1;
    }
    for expert in 0..experts.count {
        starts[expert + 1] += starts[expert];
    }
    routed.clear();
    routed.resize(chosen.len(), 0);
    // Each start moves to its end, which is the next one's start.
    for (place, expert) in chosen.iter().enumerate() {
        let at = &mut starts[*expert as usize];
        routed[*at] = place as u32;
        *at += 1;
    }
    starts.rotate_right(1);
    starts[0] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERTS: ExpertConfig = ExpertConfig {
        count: 4,
        used: 2,
        feed_forward: 8,
        shared_feed_forward: 0,
        normalise: true,
        weight_scale: 1.0,
    };

    #[test]
    fn the_best_are_chosen_and_weighed() {
        let mut scores = [0.0, 2.0, 1.0, 2.0, f32::NAN, 1.0, 1.0, 1.0];
        let (mut chosen, mut shares) = (Vec::new(), Vec::new());
        choose(&Cpu::serial(), &EXPERTS, &mut scores, &mut chosen, &mut shares);
        assert_eq!(chosen[..2], [1, 3]);
        assert!(shares[..2].iter().all(|share| (share - 0.5).abs() < 1e-6), "{shares:?}");
        assert!(chosen[2] != chosen[3] && chosen.iter().all(|expert| *expert < 4), "{chosen:?}");
        let as_they_are = ExpertConfig { normalise: false, weight_scale: 2.0, ..EXPERTS };
        let mut scores = [0.0, 0.0, 0.0, 0.0];
        choose(&Cpu::serial(), &as_they_are, &mut scores, &mut chosen, &mut shares);
        assert!(shares.iter().all(|share| (share - 0.5).abs() < 1e-6), "{shares:?}");
    }

    #[test]
    fn places_are_grouped_by_expert() {
        let (mut starts, mut routed) = (Vec::new(), Vec::new());
        group(&EXPERTS, &[1, 3, 1, 0, 3, 1], &mut starts, &mut routed);
        assert_eq!(starts, [0, 1, 4, 4, 6]);
        assert_eq!(routed, [3, 0, 2, 5, 1, 4]);
    }
}
