//! Sealed pages of 2 bits, and attention over these and the newest tokens, compared with naive ones in f64, and bit for bit
//! over instruction sets, chunks and threads.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use crate::common::kv_format::{kivi2, stored};
use crate::common::{Random, same_in_chunks, serial};
use weft_platform::{
    AttentionParams, AttentionScratch, AttentionSpan, Cpu, Kernels, KvArena, KvFormat, KvShape, PAGE, Pool,
    Recent, attention,
};

/// A session's queries, and its keys and values in both arenas. Pages are in another order in each.
struct Case {
    shape: KvShape,
    params: AttentionParams,
    tokens: usize,
    recent: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    table: Vec<u32>,
    recent_table: Vec<u32>,
    sealed: KvArena,
    open: KvArena,
}

impl Case {
    fn new(
        random: &mut Random,
        shape: KvShape,
        params: AttentionParams,
        (tokens, recent): (usize, usize),
        kernels: &'static Kernels,
    ) -> Self {
        let cpu = serial(kernels);
        let mut open = KvArena::new(KvShape { format: KvFormat::F16, layers: 1, ..shape }).unwrap();
        let mut sealed = KvArena::new(shape).unwrap();
        let (k_row, v_row) = (shape.kv_heads * shape.k_dim, shape.kv_heads * shape.v_dim);
        // Data that an earlier session may have left.
        for slot in 0..shape.slots as u32 {
            for offset in 0..PAGE {
                open.write(kernels, 0, slot, offset, &vec![f32::NAN; k_row], &vec![f32::INFINITY; v_row]);
            }
            sealed.seal(&cpu, 1, &open, 0, &[(slot, slot)]);
        }
        let table: Vec<u32> = (0..shape.slots as u32).collect();
        let recent_table: Vec<u32> = table.iter().rev().copied().collect();
        let (mut k, v) = (random.floats(tokens * k_row), random.floats(tokens * v_row));
        // A few dimensions of keys are large in all tokens.
        for row in k.chunks_mut(k_row) {
            row.iter_mut().step_by(13).for_each(|k| *k = *k * 0.5 + 6.0);
        }
        for t in 0..tokens {
            let (k, v) = (&k[t * k_row..][..k_row], &v[t * v_row..][..v_row]);
            open.write(kernels, 0, recent_table[t / PAGE], t % PAGE, k, v);
        }
        let whole: Vec<(u32, u32)> =
            recent_table.iter().copied().zip(table.iter().copied()).take(tokens / PAGE).collect();
        sealed.seal(&cpu, 1, &open, 0, &whole);
        let q = random.floats(tokens * params.heads * shape.k_dim);
        Self { shape, params, tokens, recent, q, k, v, table, recent_table, sealed, open }
    }

    /// Attention of all rows, in chunks of `chunk`.
    fn run(&self, cpu: &Cpu, chunk: usize) -> Vec<f32> {
        let q_row = self.params.heads * self.shape.k_dim;
        let out_row = self.params.heads * self.shape.v_dim;
        let mut out = vec![7.0; self.tokens * out_row];
        let mut scratch = AttentionScratch::default();
        let recent = Recent { arena: &self.open, layer: 0, tokens: self.recent };
        for start in (0..self.tokens).step_by(chunk) {
            let rows = chunk.min(self.tokens - start);
            let span =
                AttentionSpan { first_row: 0, rows, start, table: &self.table, recent: &self.recent_table };
            let (q, out) = (&self.q[start * q_row..], &mut out[start * out_row..]);
            attention(
                cpu,
                &self.sealed,
                1,
                Some(recent),
                &[span],
                &self.params,
                q,
                q_row,
                out,
                out_row,
                &mut scratch,
            );
        }
        out
    }

    /// Number `d` of the head `head` of token `t`, as it is stored in f16 and in 2 bits.
    fn numbers(&self) -> impl Fn(bool, usize, usize, usize) -> [f64; 2] {
        let KvShape { kv_heads, k_dim, v_dim, .. } = self.shape;
        let (keys, values, tokens) = (self.k.clone(), self.v.clone(), self.tokens);
        move |key, t, head, d| {
            let (x, dim) = if key { (&keys, k_dim) } else { (&values, v_dim) };
            let at = |t: usize, d: usize| x[(t * kv_heads + head) * dim + d];
            let first = t / PAGE * PAGE;
            let block: [f32; 32] = if key {
                core::array::from_fn(|i| at((first + i).min(tokens - 1), d))
            } else {
                let first = d / 32 * 32;
                core::array::from_fn(|i| at(t, if first + i < dim { first + i } else { first }))
            };
            let place = if key { t % PAGE } else { d % 32 };
            [stored(KvFormat::F16, &[at(t, d)])[0], kivi2(&block)[place]]
        }
    }

    fn naive(&self, rows: impl Iterator<Item = usize>) -> Vec<f64> {
        let KvShape { kv_heads, k_dim, v_dim, .. } = self.shape;
        let AttentionParams { heads, scale, soft_cap, window, .. } = self.params;
        let number = self.numbers();
        let all = |key: bool, dim: usize| -> Vec<[f64; 2]> {
            let of = |i: usize| number(key, i / (kv_heads * dim), i / dim % kv_heads, i % dim);
            (0..self.tokens * kv_heads * dim).map(of).collect()
        };
        let (keys, values) = (all(true, k_dim), all(false, v_dim));
        let mut out = Vec::new();
        for t in rows {
            let first_recent = (t + 1).saturating_sub(self.recent) / PAGE * PAGE;
            let from = window.map_or(0, |w| (t + 1).saturating_sub(w));
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let q = &self.q[(t * heads + h) * k_dim..][..k_dim];
                let of = |x: &[[f64; 2]], s: usize, dim: usize, d: usize| {
                    x[(s * kv_heads + kv) * dim + d][usize::from(s < first_recent)]
                };
                let scores: Vec<f64> = (from..=t)
                    .map(|s| {
                        let dot: f64 =
                            q.iter().enumerate().map(|(d, q)| f64::from(*q) * of(&keys, s, k_dim, d)).sum();
                        let score = dot * f64::from(scale);
                        soft_cap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh())
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..v_dim {
                    let value = |s: usize| of(&values, from + s, v_dim, d);
                    out.push(weights.iter().enumerate().map(|(s, w)| w * value(s)).sum::<f64>() / sum);
                }
            }
        }
        out
    }
}

/// Heads, KV heads, key dimension, value dimension, tokens, newest tokens, soft cap, window.
type Row = (usize, usize, usize, usize, usize, usize, Option<f32>, Option<usize>);

const CASES: [Row; 8] = [
    (9, 3, 64, 64, 200, 64, None, None),
    (3, 1, 64, 64, 600, 128, None, None),
    (4, 2, 40, 24, 150, 32, None, None),
    (7, 1, 80, 80, 100, 1, None, None),
    (8, 2, 128, 112, 130, 64, Some(5.0), None),
    (4, 2, 64, 48, 180, 32, Some(30.0), Some(77)),
    (1, 1, 7, 5, 140, 33, None, Some(90)),
    (2, 1, 512, 512, 100, 32, None, None),
];

fn case(
    (heads, kv_heads, k_dim, v_dim, tokens, recent, soft_cap, window): Row,
    kernels: &'static Kernels,
) -> Case {
    let slots = tokens.div_ceil(PAGE) + 1;
    let shape = KvShape { layers: 2, slots, kv_heads, k_dim, v_dim, format: KvFormat::Kivi2 };
    let params =
        AttentionParams { heads, scale: 0.3 / (k_dim as f32).sqrt(), soft_cap, window, whole: false };
    Case::new(&mut Random(40), shape, params, (tokens, recent), kernels)
}

#[test]
fn memory_is_three_bits_a_number() {
    let shape = KvShape { layers: 3, slots: 5, kv_heads: 2, k_dim: 64, v_dim: 128, format: KvFormat::Kivi2 };
    assert_eq!(KvArena::new(shape).unwrap().bytes() * 8, 3 * 5 * 2 * PAGE * (64 + 128) * 3);
    assert_eq!(KvFormat::Kivi2.row_bytes(64) * 8, 64 * 3);
}

#[test]
fn plain_rust_is_the_naive_attention() {
    for row in CASES {
        let scalar = Kernels::by_name("scalar").unwrap();
        let case = case(row, scalar);
        let out = case.run(&serial(scalar), case.tokens);
        let width = case.params.heads * case.shape.v_dim;
        let rows: Vec<usize> = (0..case.tokens).filter(|t| t % 7 == 0 || t + 40 > case.tokens).collect();
        let mut sum = 0.0;
        let exact = case.naive(rows.iter().copied());
        for (row, exact) in rows.iter().zip(exact.chunks(width)) {
            for (out, exact) in out[row * width..][..width].iter().zip(exact) {
                let error = (f64::from(*out) - exact).abs();
                assert!(error <= 2e-3, "{:?} {row}: {out} {exact}", case.params);
                sum += error;
            }
        }
        let mean = sum / (rows.len() * width) as f64;
        assert!(mean < 4e-6, "{:?}: mean error {mean}", case.params);
    }
}

#[test]
fn chunks_threads_and_instruction_sets_give_the_same_bits() {
    let pool = Pool::new(3).unwrap();
    for row in CASES {
        let scalar = Kernels::by_name("scalar").unwrap();
        let plain = case(row, scalar);
        let want = plain.run(&serial(scalar), plain.tokens);
        assert!(want.iter().all(|v| v.is_finite()), "stale memory was read");
        for kernels in Kernels::available() {
            let case = case(row, kernels);
            assert!(
                (0..case.shape.slots as u32)
                    .all(|slot| case.sealed.slot(1, slot) == plain.sealed.slot(1, slot)),
                "{kernels:?} seals otherwise: {:?}",
                case.params
            );
            let run = |cpu: &Cpu, chunk| case.run(cpu, chunk);
            same_in_chunks(&pool, kernels, case.tokens, &want, run, &format!("{:?}", case.params));
        }
    }
}

#[test]
fn levels_are_spread_where_numbers_are() {
    let mut random = Random(41);
    // Sums of twelve uniform numbers are nearly normal.
    let blocks: Vec<[f32; 32]> = (0..4000)
        .map(|_| core::array::from_fn(|_| (0..12).map(|_| random.float()).sum::<f32>() / 2.0))
        .collect();
    let whole_range = |x: &[f32; 32]| -> Vec<f64> {
        let (least, most) = x.iter().fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        let scale = f64::from(most - least) / 3.0;
        let least = f64::from(least);
        x.iter().map(|x| least + scale * ((f64::from(*x) - least) / scale).round()).collect()
    };
    let error = |stored: &dyn Fn(&[f32; 32]) -> Vec<f64>| {
        let of = |x: &[f32; 32]| -> f64 {
            x.iter().zip(stored(x)).map(|(x, s)| (f64::from(*x) - s).powi(2)).sum()
        };
        blocks.iter().map(of).sum::<f64>()
            / blocks.iter().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>()
    };
    let (ours, whole) = (error(&kivi2), error(&whole_range));
    println!("{ours:.4} of the variance, {whole:.4} over the whole range");
    assert!(ours < 0.115 && ours < 0.75 * whole, "{ours} {whole}");
}

#[test]
fn what_no_scale_fits() {
    let read = |x: [f32; 32]| kivi2(&x);
    assert_eq!(read([0.0; 32]), [0.0; 32]);
    assert_eq!(read([-3.5; 32]), [-3.5; 32]);
    // The attention of a query of zeros to one sealed page is the mean of its values.
    let mean = |value: &[f32]| {
        let shape = KvShape {
            layers: 1,
            slots: 1,
            kv_heads: 1,
            k_dim: 1,
            v_dim: value.len(),
            format: KvFormat::Kivi2,
        };
        let mut open = KvArena::new(KvShape { format: KvFormat::F16, ..shape }).unwrap();
        let mut sealed = KvArena::new(shape).unwrap();
        let cpu = serial(Kernels::detect());
        (0..PAGE).for_each(|offset| open.write(cpu.kernels, 0, 0, offset, &[0.0], value));
        sealed.seal(&cpu, 0, &open, 0, &[(0, 0)]);
        let mut out = vec![0.0; value.len()];
        let params = AttentionParams { heads: 1, scale: 1.0, ..AttentionParams::default() };
        let span = AttentionSpan { first_row: 0, rows: 1, start: PAGE - 1, table: &[0], recent: &[0] };
        let recent = Recent { arena: &open, layer: 0, tokens: 0 };
        let mut scratch = AttentionScratch::default();
        let width = value.len();
        attention(&cpu, &sealed, 0, Some(recent), &[span], &params, &[0.0], 1, &mut out, width, &mut scratch);
        out
    };
    assert_eq!(mean(&[2.0; 40]), [2.0; 40]);
    // The scale is rounded to f16, nothing overflows.
    let large = mean(&[65504.0, -65504.0]);
    assert!((large[0] / 65504.0 - 1.0).abs() < 1e-3 && large[1] == -65504.0, "{large:?}");
    assert_eq!(mean(&[1e-30, -1e-30, 0.0]), [0.0; 3]);
    // NaN and infinity stay in their own block, as NaN.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 15, 16, 31] {
            let mut value = [1.0; 40];
            value[at] = bad;
            let found = mean(&value);
            assert!(found[..32].iter().all(|v| v.is_nan()), "{bad} at {at}");
            assert_eq!(found[32..], [1.0; 8]);
        }
    }
}
