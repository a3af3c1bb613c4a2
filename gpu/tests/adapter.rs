//! Adapters of a product: pairs of several adapters on random shapes, with rows that use an adapter and rows that use
//! none, compared with a twin in `f64`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::{Random, buffer, close, devices, output, read, reduce, run};
use weft_gpu::shader::{KernelSpec, parts};

const PAIRS: usize = 3;
const PAIR_WORDS: usize = 6;
const NO_ADAPTER: u32 = u32::MAX;

/// A pair: A is `[rank, inputs]`, B is `[outputs, rank]`.
struct Pair {
    first: usize,
    outputs: usize,
    rank: usize,
    scale: f32,
    down: Vec<f32>,
    up: Vec<f32>,
}

impl Pair {
    fn random(random: &mut Random, inputs: usize, first: usize, outputs: usize) -> Self {
        let rank = 1 + random.below(9);
        let (down, up) = (random.floats(rank * inputs), random.floats(outputs * rank));
        Self { first, outputs, rank, scale: random.unit(), down, up }
    }
}

/// The buffer that `adapter.wgsl` reads, and the largest number of ranks of a row.
fn words(adapters: &[Vec<Pair>]) -> (Vec<u32>, usize) {
    let ranks = adapters.iter().map(|pairs| pairs.iter().map(|pair| pair.rank).sum()).max().unwrap_or(0);
    let mut words = vec![0; 1 + adapters.len() * PAIRS * PAIR_WORDS];
    words[0] = ranks as u32;
    for (adapter, pairs) in adapters.iter().enumerate() {
        for (place, pair) in pairs.iter().enumerate() {
            let down = words.len();
            words.extend(pair.down.iter().map(|value| value.to_bits()));
            let up = words.len();
            for k in 0..pair.rank {
                words.extend(pair.up.iter().skip(k).step_by(pair.rank).map(|value| value.to_bits()));
            }
            let numbers = [down, up, pair.rank, pair.first, pair.outputs].map(|n| n as u32);
            let at = 1 + PAIR_WORDS * (adapter * PAIRS + place);
            words[at..at + 5].copy_from_slice(&numbers);
            words[at + 5] = pair.scale.to_bits();
        }
    }
    (words, ranks)
}

#[test]
fn rows_get_what_their_adapter_adds() {
    for gpu in devices() {
        let mut random = Random(5);
        for (inputs, outputs, rows) in [(32, 48, 1), (200, 96, 7), (96, 600, 19)] {
            let stride = inputs + 8;
            // One adapter with a pair for each third, one with a pair for the middle third only, one with a pair for all.
            let third = outputs / 3;
            let adapters = vec![
                (0..3).map(|n| Pair::random(&mut random, inputs, n * third, third)).collect(),
                vec![Pair::random(&mut random, inputs, third, third)],
                vec![Pair::random(&mut random, inputs, 0, outputs)],
            ];
            let (words, ranks) = words(&adapters);
            let (x, before) = (random.floats(rows * stride), random.floats(rows * outputs));
            // Rows of another list come first.
            let rows_at = 5;
            let mut used = vec![[NO_ADAPTER, 0]; rows_at];
            let mut wanted: Vec<f64> = before.iter().map(|value| f64::from(*value)).collect();
            for row in 0..rows {
                let (number, scale) = (random.below(4), random.unit());
                let Some(pairs) = adapters.get(number) else {
                    used.push([NO_ADAPTER, scale.to_bits()]);
                    continue;
                };
                used.push([number as u32, scale.to_bits()]);
                for pair in pairs {
                    for output in 0..pair.outputs {
                        let ups = &pair.up[output * pair.rank..][..pair.rank];
                        let sum: f64 = ups
                            .iter()
                            .zip(pair.down.chunks_exact(inputs))
                            .map(|(up, down)| {
                                let x = &x[row * stride..][..inputs];
                                let dot: f64 =
                                    down.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum();
                                f64::from(*up) * dot
                            })
                            .sum();
                        wanted[row * outputs + pair.first + output] +=
                            sum * f64::from(pair.scale) * f64::from(scale);
                    }
                }
            }
            let (reduce, lanes) = reduce(&gpu);
            let shaped = |spec: KernelSpec| spec.with("PAIRS", PAIRS as u32).with("ROWS_AT", rows_at as u32);
            let down = KernelSpec::new("adapter_down", [reduce, parts::ADAPTER, parts::ADAPTER_DOWN])
                .with("WG", 64u32)
                .with("LANES", lanes)
                .with("K", inputs as u32)
                .with("X_STRIDE", stride as u32);
            let up = KernelSpec::new("adapter_up", [parts::ADAPTER, parts::ADAPTER_UP])
                .with("WG", 256u32)
                .with("N", outputs as u32)
                .with("OUT_STRIDE", outputs as u32);
            let (x, used, words) = (buffer(&gpu, &x), buffer(&gpu, &used), buffer(&gpu, &words));
            let (low, out) = (output(&gpu, rows * ranks), buffer(&gpu, &before));
            let shared = [(2, &used), (3, &words), (4, &low)];
            let of_down: Vec<_> = shared.into_iter().chain([(1, &x)]).collect();
            run(&gpu, &shaped(down), &of_down, [ranks as u32, rows as u32, 1]);
            let of_up: Vec<_> = shared.into_iter().chain([(30, &out)]).collect();
            run(&gpu, &shaped(up), &of_up, [outputs.div_ceil(256) as u32, rows as u32, 1]);
            // Sums of a few hundred products in 32-bit floats.
            close(&read(&gpu, &out, rows * outputs), &wanted, 1e-5, &format!("{inputs}, {outputs}, {rows}"));
        }
    }
}
