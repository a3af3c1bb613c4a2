//! Experts: a router scores them, each row passes through the best few, and their outputs are summed with their weights
//! (arXiv 1701.06538; Mixtral, arXiv 2401.04088). A shared expert, if there is one, computes every row.
//!
//! Rows are grouped by expert, so that a wave reads each expert's weights at most once. Invariant: a row's sum starts
//! with the shared expert and adds its experts in the order of their indices, so it does not depend on the other rows
//! of the wave.

use super::{Gates, Network};
use crate::on_cpu::{self as cpu, ExpertScratch, Route, Weights, sized};
use weft_components::{ExpertConfig, TensorRole as Role};
use weft_platform::{Cpu, Need};

/// Replaces rows of hidden state by the output of the experts. Returns false if a weight is missing; the rows then have
/// no defined values.
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
    let ExpertScratch { scores, shared, routes, starts, routed, rows: gathered, sum } = scratch;

    let scores = sized(scores, count * experts.count);
    gates.load(rows, Need::of(&[router]));
    cpu::product(cpu, &[router], gates.activations, scores, experts.count);
    choose(cpu, experts, scores, routes);
    group(experts, routes, starts, routed);

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
        cpu::by_rows(cpu, gathered, width, |place, out| {
            out.copy_from_slice(&rows[places[place] as usize / experts.used * width..][..width]);
        });
        let network = Network::plain(matrices);
        gates.reserve(&network, count);
        gates.load(gathered, Need::of(&[matrices[0], matrices[1]]));
        gates.run(&network, None, gathered);
        let _kernel = tracing::trace_span!(target: "weft::kernel", "add").entered();
        for (place, made) in places.iter().zip(gathered.chunks_exact(width)) {
            let (row, share) = (*place as usize / experts.used, routes[*place as usize].share);
            cpu.kernels.add_scaled(&mut sum[row * width..][..width], made, share);
        }
    }
    rows.copy_from_slice(sum);
    true
}

/// Starts the sum with the shared expert's output, or with zeros if there is none.
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
    // Without a router, the shared expert has weight 1.
    let router = weights.matrix(Role::SharedRouter);
    if let Some(router) = router {
        gates.load(rows, Need::of(&[router]));
        cpu::product(cpu, &[router], gates.activations, shares, 1);
        cpu.kernels.sigmoid(shares);
    }
    gates.load(rows, Need::of(&[gate, up]));
    gates.run(&Network::plain([gate, up, down]), None, sum);
    if router.is_some() {
        cpu::by_rows(cpu, sum, width, |row, values| cpu.kernels.scale(values, shares[row]));
    }
    true
}

/// Number of scores below which a fork to other threads does not pay.
const GRAIN: usize = 4 * 1024;

/// Chooses each row's best experts and their weights, best first, the first of equals first. Rows are distributed over
/// the threads. `scores` become probabilities.
fn choose(cpu: &Cpu, experts: &ExpertConfig, scores: &mut [f32], routes: &mut Vec<Route>) {
    let (count, used) = (experts.count.max(1), experts.used);
    let rows = scores.len() / count;
    let grain = GRAIN.div_ceil(count);
    cpu.for_each_part(scores, count, grain, |_, row| cpu.kernels.softmax(row));
    routes.clear();
    routes.resize(rows * used, Route::default());
    let scores = &*scores;
    cpu.for_each_part(routes, used, grain, |row, routes| {
        let scores = &scores[row * count..][..count];
        for place in 0..used {
            let (taken, rest) = routes.split_at_mut(place);
            let mut best: Option<usize> = None;
            for (expert, share) in scores.iter().enumerate() {
                let is_taken = || taken.iter().any(|route| route.expert as usize == expert);
                if best.is_none_or(|best| *share > scores[best]) && !is_taken() {
                    best = Some(expert);
                }
            }
            // At most as many experts are used as there are, so one is left.
            let best = best.unwrap_or(0);
            rest[0] = Route { expert: best as u32, share: scores[best] };
        }
        let sum: f32 = if experts.normalise { routes.iter().map(|route| route.share).sum() } else { 1.0 };
        routes.iter_mut().for_each(|route| route.share = route.share / sum * experts.weight_scale);
    });
}

/// Lists the indices of `routes` by expert, ascending within each.
fn group(experts: &ExpertConfig, routes: &[Route], starts: &mut Vec<usize>, routed: &mut Vec<u32>) {
    starts.clear();
    starts.resize(experts.count + 1, 0);
    for route in routes {
        starts[route.expert as usize + 1] += 1;
    }
    for expert in 0..experts.count {
        starts[expert + 1] += starts[expert];
    }
    routed.clear();
    routed.resize(routes.len(), 0);
    // Each start moves to its end, which is the next expert's start.
    for (place, route) in routes.iter().enumerate() {
        let at = &mut starts[route.expert as usize];
        routed[*at] = place as u32;
        *at += 1;
    }
    starts.rotate_right(1);
    starts[0] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_platform::Pool;

    const EXPERTS: ExpertConfig = ExpertConfig {
        count: 4,
        used: 2,
        feed_forward: 8,
        shared_feed_forward: 0,
        normalise: true,
        weight_scale: 1.0,
    };

    fn chosen(cpu: &Cpu, experts: &ExpertConfig, scores: &[f32]) -> Vec<Route> {
        let mut routes = vec![Route { expert: 9, share: 9.0 }; 3];
        choose(cpu, experts, &mut scores.to_vec(), &mut routes);
        routes
    }

    #[test]
    fn the_best_are_chosen_and_weighed() {
        let cpu = Cpu::serial();
        let routes = chosen(&cpu, &EXPERTS, &[0.0, 2.0, 1.0, 2.0, f32::NAN, 1.0, 1.0, 1.0]);
        assert_eq!([routes[0].expert, routes[1].expert], [1, 3]);
        assert!(routes[..2].iter().all(|route| (route.share - 0.5).abs() < 1e-6), "{routes:?}");
        assert!(routes[2].expert != routes[3].expert, "{routes:?}");
        assert!(routes.iter().all(|route| route.expert < 4), "{routes:?}");
        let as_they_are = ExpertConfig { normalise: false, weight_scale: 2.0, ..EXPERTS };
        let routes = chosen(&cpu, &as_they_are, &[0.0; 4]);
        assert_eq!([routes[0].expert, routes[1].expert], [0, 1], "of equals the first");
        assert!(routes.iter().all(|route| (route.share - 0.5).abs() < 1e-6), "{routes:?}");
    }

    #[test]
    fn threads_choose_what_one_chooses() {
        let experts = ExpertConfig { count: 60, used: 4, ..EXPERTS };
        let scores: Vec<f32> = (0..700 * 60).map(|i| (i as f32 * 0.71).sin() * 4.0).collect();
        let alone = chosen(&Cpu::serial(), &experts, &scores);
        assert_eq!(alone.len(), 700 * 4);
        let pool = Pool::new(3).unwrap();
        let cpu = pool.cpu(Cpu::serial().kernels);
        let together = pool.install(|| chosen(&cpu, &experts, &scores));
        let bits = |routes: &[Route]| -> Vec<_> {
            routes.iter().map(|route| (route.expert, route.share.to_bits())).collect()
        };
        assert_eq!(bits(&together), bits(&alone));
    }

    #[test]
    fn places_are_grouped_by_expert() {
        let (mut starts, mut routed) = (Vec::new(), Vec::new());
        let routes = [1, 3, 1, 0, 3, 1].map(|expert| Route { expert, share: 1.0 });
        group(&EXPERTS, &routes, &mut starts, &mut routed);
        assert_eq!(starts, [0, 1, 4, 4, 6]);
        assert_eq!(routed, [3, 0, 2, 5, 1, 4]);
    }
}
