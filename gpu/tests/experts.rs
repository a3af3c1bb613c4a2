//! Experts: which are chosen and with which weights, grouping of pairs by expert, and products with stacked matrices,
//! compared with twins in `f64`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::{Act, Codes};
use crate::common::product::{exact, fit, matrix, product, rows_of};
use crate::common::twins::silu;
use crate::common::{Random, buffer, devices, is_untouched, largest, output, read, reduce, run, within};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, Gpu, GpuMatrix, wgpu};

/// Most pairs in a group, which have the same expert.
const GROUP: usize = 8;

/// Number of experts, and how many of them each row uses.
#[derive(Clone, Copy, Debug)]
struct Experts {
    count: usize,
    used: usize,
}

const EXPERTS: [Experts; 4] = [
    Experts { count: 4, used: 2 },
    Experts { count: 8, used: 3 },
    Experts { count: 60, used: 4 },
    Experts { count: 128, used: 8 },
];

impl Experts {
    /// Different experts for each of `rows` rows.
    fn random_routes(self, random: &mut Random, rows: usize) -> Vec<[u32; 2]> {
        let mut routes = Vec::new();
        for _ in 0..rows {
            let mut all: Vec<u32> = (0..self.count as u32).collect();
            for slot in 0..self.used {
                all.swap(slot, slot + random.below(self.count - slot));
                routes.push([all[slot], random.unit().to_bits()]);
            }
        }
        routes
    }

    /// Most tiles that `pairs` pairs are grouped into.
    fn tiles(self, pairs: usize) -> usize {
        pairs / GROUP + self.count.min(pairs)
    }
}

#[test]
fn the_best_are_chosen_of_equals_the_first() {
    for gpu in devices() {
        let mut random = Random(1);
        for (i, experts) in EXPERTS.into_iter().enumerate() {
            let (rows, stride, normalise) = (5, experts.count + i % 2, i % 2 == 0);
            let mut scores: Vec<f32> = random.floats(rows * stride).iter().map(|x| 8.0 * x).collect();
            // Equal scores, and scores whose exponential would overflow or vanish.
            scores[stride..2 * stride].fill(0.25);
            scores[2 * stride] = 500.0;
            scores[2 * stride + 1] = -500.0;
            let (reduce, lanes) = reduce(&gpu);
            let spec = KernelSpec::new("route", [parts::WAVE, reduce, parts::ROUTE])
                .with("WG", 64u32)
                .with("LANES", lanes)
                .with("EXPERTS", experts.count as u32)
                .with("SCORES", stride as u32)
                .with("USED", experts.used as u32)
                .with("NORMALISE", u32::from(normalise))
                .with("WEIGHT_SCALE", 1.5f32);
            let (wave, routes) = (rows_of(&gpu, rows), output(&gpu, 2 * rows * experts.used));
            let on_device = buffer(&gpu, &scores);
            run(&gpu, &spec, &[(0, &wave), (1, &on_device), (2, &routes)], [rows as u32, 1, 1]);
            let found = read::<[u32; 2]>(&gpu, &routes, rows * experts.used);
            for (row, found) in found.chunks_exact(experts.used).enumerate() {
                let scores = &scores[row * stride..][..experts.count];
                let mut order: Vec<usize> = (0..experts.count).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                order.truncate(experts.used);
                let ids: Vec<usize> = found.iter().map(|[id, _]| *id as usize).collect();
                assert_eq!(ids, order, "{experts:?}, row {row}");
                let top = f64::from(scores[order[0]]);
                let term = |e: usize| (f64::from(scores[e]) - top).exp();
                let all: f64 = (0..experts.count).map(term).sum();
                let sum: f64 = if normalise { order.iter().map(|e| term(*e)).sum() } else { all };
                let wanted: Vec<f64> = order.iter().map(|e| 1.5 * term(*e) / sum).collect();
                let weights: Vec<f32> = found.iter().map(|[_, weight]| f32::from_bits(*weight)).collect();
                // Exponentials of numbers up to 16 are within 35 units of 2^-23 (WGSL).
                within(&weights, &wanted, &vec![1e-5; wanted.len()], &format!("{experts:?}, row {row}"));
            }
        }
    }
}

/// Groups pairs on the device.
fn group(gpu: &Gpu, experts: Experts, rows: usize, routes: &wgpu::Buffer) -> wgpu::Buffer {
    let pairs = rows * experts.used;
    // As in plans, there is room for larger waves.
    let tiles = experts.tiles(pairs + 40);
    let spec = KernelSpec::new("group_pairs", [parts::WAVE, parts::GROUP_PAIRS])
        .with("WG", 256u32)
        .with("EXPERTS", experts.count as u32)
        .with("USED", experts.used as u32)
        .with("GROUP", GROUP as u32)
        .with("TILES", tiles as u32);
    let groups = output(gpu, 2 * tiles + pairs + 40);
    run(gpu, &spec, &[(0, &rows_of(gpu, rows)), (1, routes), (2, &groups)], [1, 1, 1]);
    groups
}

#[test]
fn each_pair_is_in_one_tile_of_its_expert() {
    for gpu in devices() {
        let mut random = Random(2);
        for (experts, rows) in EXPERTS.into_iter().zip([1, 33, 200, 70]) {
            let pairs = rows * experts.used;
            let routes = experts.random_routes(&mut random, rows);
            let tiles = experts.tiles(pairs + 40);
            let groups = group(&gpu, experts, rows, &buffer(&gpu, &routes));
            let words = read::<u32>(&gpu, &groups, 2 * tiles + pairs + 40);
            let (list, places) = words.split_at(2 * tiles);
            let mut seen = vec![false; pairs];
            for tile in list[..2 * experts.tiles(pairs)].chunks_exact(2) {
                let (expert, count) = (tile[0] >> 8, (tile[0] & 255) as usize);
                assert!(count <= GROUP);
                let of_tile = if count == 0 { &[][..] } else { &places[tile[1] as usize..][..count] };
                for pair in of_tile {
                    assert_eq!(routes[*pair as usize][0], expert, "{experts:?}");
                    assert!(
                        !core::mem::replace(&mut seen[*pair as usize], true),
                        "{experts:?}: {pair} twice"
                    );
                }
            }
            assert!(seen.iter().all(|seen| *seen), "{experts:?}: all pairs");
            assert!(places[pairs..].iter().all(is_untouched));
        }
    }
}

/// A product of pairs with stacked matrices.
struct Stack {
    experts: Experts,
    rows: usize,
    routes: Vec<[u32; 2]>,
    /// True if pairs are processed in groups.
    grouped: bool,
}

impl Stack {
    fn pairs(&self) -> usize {
        self.rows * self.experts.used
    }

    /// Runs the product with `held`, the experts from `first` on, with `n` weight rows each.
    fn run(
        &self,
        gpu: &Gpu,
        (first, held, n): (usize, &GpuMatrix, usize),
        share: usize,
        parts_of: u32,
        kernel: &[Part],
        constants: &[(&'static str, u32)],
        buffers: &[(u32, &wgpu::Buffer)],
    ) {
        let (reduce, lanes) = reduce(gpu);
        let routes = buffer(gpu, &self.routes);
        let rows = if self.grouped { GROUP } else { 1 };
        // As in plans.
        let (each, passes) = if parts_of == 2 { (32u32.div_ceil(256 / lanes), 2) } else { (2, 1) };
        let (rows_part, pairs) = match self.grouped {
            true => (parts::ROWS_GROUPS, group(gpu, self.experts, self.rows, &routes)),
            false => (parts::ROWS_PAIRS, routes),
        };
        let spec = KernelSpec::new(
            "experts",
            [&[reduce, parts::MATVEC, rows_part][..], &held.decode(), kernel].concat(),
        );
        let spec = held
            .encoding
            .constants(spec)
            .with("K", held.columns as u32)
            .with("N", n as u32)
            .with("ROW_BASE", 0u32)
            .with("WG", 256u32)
            .with("LANES", lanes)
            .with("NR", each)
            .with("PASSES", passes)
            .with("SPLIT", 1u32)
            .with("PARTS", parts_of)
            .with("ROWS", rows as u32)
            .with("GRID_X", 2u32)
            .with("FIRST", first as u32)
            .with("HELD", (held.rows / n) as u32)
            .with("SHARE", share as u32)
            .with("TILES", self.experts.tiles(self.pairs() + 40) as u32);
        let spec = constants.iter().fold(spec, |spec, (name, value)| spec.with(name, *value));
        let columns = 256 / lanes * each * passes / parts_of;
        let tiles = (n as u32 / parts_of).div_ceil(columns);
        let deep = if self.grouped { self.experts.tiles(self.pairs()) } else { self.pairs() };
        let planes: Vec<_> = held.segments[0].buffers().collect();
        let planes = planes.iter().map(|(index, buffer)| (*index, buffer));
        let buffers: Vec<_> = buffers.iter().copied().chain([(3, &pairs)]).chain(planes).collect();
        run(gpu, &spec, &buffers, [2, tiles.div_ceil(2), deep as u32]);
    }
}

/// Weights of one expert.
fn of_expert(weights: &[f32], expert: u32, size: usize) -> &[f32] {
    &weights[expert as usize * size..][..size]
}

#[test]
fn down_projections_of_pairs() {
    for gpu in devices() {
        let mut random = Random(3);
        for (format, experts, rows, grouped) in [
            ("F16", EXPERTS[0], 3, false),
            ("Q4_K", EXPERTS[1], 2, false),
            ("F16", EXPERTS[1], 21, true),
            ("Q8_0", EXPERTS[2], 40, true),
        ] {
            let (n, columns) = (32 * (1 + random.below(4)) + 3, fit(format, 32 * (1 + random.below(12))));
            let routes = experts.random_routes(&mut random, rows);
            let stack = Stack { experts, rows, routes, grouped };
            // Two matrices, each with half of the experts.
            let half = experts.count / 2;
            let halves = [(); 2].map(|()| matrix(&gpu, &mut random, format, half * n, columns));
            let weights = [&halves[0].1[..], &halves[1].1[..]].concat();
            let x = random.floats(stack.pairs() * columns);
            let wanted: Vec<f64> = stack
                .routes
                .iter()
                .zip(x.chunks_exact(columns))
                .flat_map(|([e, _], x)| product(of_expert(&weights, *e, n * columns), &exact(x), columns))
                .collect();
            let (x, out) = (buffer(&gpu, &x), output(&gpu, wanted.len()));
            for (i, (held, _)) in halves.iter().enumerate() {
                let kernel = [parts::DOT_F32, parts::ADD_F32, parts::OUT_STORE];
                let constants = [("OUT_STRIDE", n as u32)];
                stack.run(&gpu, (i * half, held, n), 1, 1, &kernel, &constants, &[(1, &x), (30, &out)]);
            }
            let what = format!("{format} {experts:?}, {rows} rows, grouped {grouped}, {columns}x{n}");
            // Rounding errors of sums, as in `products.rs`.
            let allowed = vec![1e-5 * largest(&wanted); wanted.len()];
            within(&read::<f32>(&gpu, &out, wanted.len()), &wanted, &allowed, &what);
        }
    }
}

#[test]
fn gated_products_of_pairs() {
    for gpu in devices() {
        let mut random = Random(4);
        for (format, experts, rows, grouped, form) in [
            ("BF16", EXPERTS[0], 3, false, ActFormat::F32),
            ("Q4_0", EXPERTS[1], 2, false, ActFormat::Q8),
            ("Q4_K", EXPERTS[1], 19, true, ActFormat::F32),
        ] {
            let (width, columns) = (32 * (1 + random.below(3)), fit(format, 32 * (1 + random.below(8))));
            // Rows of activations may be wider than the gated rows.
            let act_width = if form == ActFormat::Q8 { width } else { width + 32 };
            let routes = experts.random_routes(&mut random, rows);
            let stack = Stack { experts, rows, routes, grouped };
            let n = 2 * width;
            let (held, weights) = matrix(&gpu, &mut random, format, experts.count * n, columns);
            let (numbers, beside, x) = if form == ActFormat::Q8 {
                let codes = Codes::new(&gpu, &mut random, rows * columns, rows * columns);
                (codes.numbers, codes.scales, codes.exact)
            } else {
                let x = random.floats(rows * columns);
                let floats = buffer(&gpu, &x);
                (floats.clone(), floats, exact(&x))
            };
            let mut wanted = Vec::new();
            let mut allowed = Vec::new();
            for (pair, [e, _]) in stack.routes.iter().enumerate() {
                let row = &x[pair / experts.used * columns..][..columns];
                let sums = product(of_expert(&weights, *e, n * columns), row, columns);
                let (gates, ups) = sums.split_at(width);
                let off = 2e-5 * largest(&sums);
                for i in 0..act_width {
                    let there = i < width;
                    let (gate, up) = if there { (gates[i], ups[i]) } else { (0.0, 0.0) };
                    wanted.push(silu(gate) * up);
                    allowed.push(if there {
                        1.1 * off * (up.abs() + off) + silu(gate).abs() * off + 1e-5 * (silu(gate) * up).abs()
                    } else {
                        0.0
                    });
                }
            }
            let act = Act::new(&gpu, form, wanted.len());
            // Elements beyond the width must not be written.
            for (_, act) in act.bindings() {
                gpu.queue.write_buffer(
                    act,
                    0,
                    &vec![0; (act_width * stack.pairs() * 4).min(act.size() as usize - 64)],
                );
            }
            let dot = if form == ActFormat::Q8 {
                [parts::DOT_Q8, parts::ADD_Q8]
            } else {
                [parts::DOT_F32, parts::ADD_F32]
            };
            let kernel = [&dot[..], &[form.part(), parts::GATE_SILU, parts::OUT_GATE]].concat();
            let buffers: Vec<_> = [(1, &numbers), (2, &beside)].into_iter().chain(act.bindings()).collect();
            let constants = [("ACT_WIDTH", act_width as u32)];
            stack.run(&gpu, (0, &held, n), experts.used, 2, &kernel, &constants, &buffers);
            let what = format!("{format} {experts:?}, {rows} rows, grouped {grouped}, {columns}x{width}");
            act.check(&gpu, &wanted, &allowed, &what);
        }
    }
}
