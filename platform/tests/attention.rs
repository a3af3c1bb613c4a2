//! Attention compared with a naive one in f64. Every instruction set, chunking and number of threads compared with
//! plain Rust, bit for bit. Stale memory.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use crate::common::kv_format::stored;
use crate::common::{Random, bits, same_in_chunks, serial};
use weft_platform::{
    AttentionParams, AttentionScratch, AttentionSpan, Cpu, Kernels, KvArena, KvError, KvFormat, KvShape,
    PAGE, Pool, attention,
};

/// A session's queries, keys and values, and its cache in an arena that contains data of other sessions.
struct Case {
    shape: KvShape,
    params: AttentionParams,
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    table: Vec<u32>,
    arena: KvArena,
}

fn case(random: &mut Random, shape: KvShape, params: AttentionParams, tokens: usize) -> Case {
    let mut arena = KvArena::new(shape).unwrap();
    // Data that an earlier session may have left.
    let (k_row, v_row) = (shape.kv_heads * shape.k_dim, shape.kv_heads * shape.v_dim);
    for slot in 0..shape.slots as u32 {
        for offset in 0..PAGE {
            arena.write(
                Kernels::detect(),
                1,
                slot,
                offset,
                &vec![f32::NAN; k_row],
                &vec![f32::INFINITY; v_row],
            );
        }
    }
    let mut table: Vec<u32> = (0..shape.slots as u32).collect();
    for i in (1..table.len()).rev() {
        table.swap(i, random.below(i + 1));
    }
    let (k, v) = (random.floats(tokens * k_row), random.floats(tokens * v_row));
    for t in 0..tokens {
        let (k, v) = (&k[t * k_row..][..k_row], &v[t * v_row..][..v_row]);
        arena.write(Kernels::detect(), 1, table[t / PAGE], t % PAGE, k, v);
    }
    let q = random.floats(tokens * params.heads * shape.k_dim);
    Case { shape, params, tokens, q, k, v, table, arena }
}

impl Case {
    /// Attention of rows `from..to`, in chunks of `chunk`.
    fn run(&self, cpu: &Cpu, chunk: usize) -> Vec<f32> {
        let q_row = self.params.heads * self.shape.k_dim;
        let out_row = self.params.heads * self.shape.v_dim + 3;
        let mut out = vec![7.0; self.tokens * out_row];
        let mut scratch = AttentionScratch::default();
        for start in (0..self.tokens).step_by(chunk) {
            let rows = chunk.min(self.tokens - start);
            let span = AttentionSpan { first_row: 0, rows, start, table: &self.table, recent: &[] };
            attention(
                cpu,
                &self.arena,
                1,
                None,
                &[span],
                &self.params,
                &self.q[start * q_row..],
                q_row,
                &mut out[start * out_row..],
                out_row,
                &mut scratch,
            );
        }
        assert!(out.chunks(out_row).all(|row| row[out_row - 3..] == [7.0; 3]), "wrote past the heads");
        out.chunks(out_row).flat_map(|row| row[..out_row - 3].iter().copied()).collect()
    }

    /// The values that the cache stores for heads of `dim`.
    fn stored(&self, x: &[f32], dim: usize) -> Vec<f64> {
        x.chunks(dim).flat_map(|head| stored(self.shape.format, head)).collect()
    }

    fn naive(&self) -> Vec<f64> {
        let KvShape { kv_heads, k_dim, v_dim, .. } = self.shape;
        let AttentionParams { heads, scale, soft_cap, window, whole } = self.params;
        let (keys, values) = (self.stored(&self.k, k_dim), self.stored(&self.v, v_dim));
        let mut out = Vec::new();
        for t in 0..self.tokens {
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let q = &self.q[(t * heads + h) * k_dim..][..k_dim];
                let from = window.map_or(0, |w| (t + 1).saturating_sub(w));
                let last = if whole { self.tokens - 1 } else { t };
                let scores: Vec<f64> = (from..=last)
                    .map(|s| {
                        let k = &keys[(s * kv_heads + kv) * k_dim..][..k_dim];
                        let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum();
                        let score = dot * f64::from(scale);
                        soft_cap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh())
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..v_dim {
                    let value = |s: usize| values[((from + s) * kv_heads + kv) * v_dim + d];
                    out.push(weights.iter().enumerate().map(|(s, w)| w * value(s)).sum::<f64>() / sum);
                }
            }
        }
        out
    }
}

/// Heads, KV heads, key dimension, value dimension, tokens, soft cap, window, format.
type Row = (usize, usize, usize, usize, usize, Option<f32>, Option<usize>, KvFormat);

const CASES: [Row; 30] = [
    (9, 3, 64, 64, 70, None, None, KvFormat::F16),
    (2, 1, 16, 16, 33, None, None, KvFormat::F32),
    (4, 4, 20, 20, 40, None, None, KvFormat::F16),
    (7, 1, 80, 80, 37, None, None, KvFormat::F16),
    (8, 2, 128, 128, 35, Some(5.0), None, KvFormat::F16),
    (4, 2, 64, 48, 100, Some(30.0), Some(17), KvFormat::F16),
    (3, 1, 64, 64, 530, None, None, KvFormat::F16),
    (2, 2, 16, 24, 300, None, Some(40), KvFormat::F32),
    (1, 1, 7, 5, 65, None, Some(1), KvFormat::F32),
    (10, 2, 32, 32, 64, None, None, KvFormat::F32),
    (9, 3, 64, 64, 70, None, None, KvFormat::Q8_0),
    (4, 2, 16, 16, 33, None, None, KvFormat::Q8_0),
    (7, 1, 80, 80, 37, None, None, KvFormat::Q8_0),
    (8, 2, 128, 112, 35, Some(5.0), None, KvFormat::Q8_0),
    (4, 2, 72, 48, 100, Some(30.0), Some(17), KvFormat::Q8_0),
    (3, 1, 64, 64, 530, None, None, KvFormat::Q8_0),
    (1, 1, 7, 33, 65, None, Some(1), KvFormat::Q8_0),
    (2, 1, 512, 512, 40, None, None, KvFormat::Q8_0),
    (9, 3, 64, 64, 70, None, None, KvFormat::Bf16),
    (1, 1, 7, 5, 65, None, Some(1), KvFormat::Bf16),
    (4, 2, 64, 48, 100, Some(30.0), Some(17), KvFormat::Bf16),
    (9, 3, 64, 64, 70, None, None, KvFormat::Q4_0),
    (4, 2, 16, 16, 33, None, None, KvFormat::Q4_0),
    (7, 1, 80, 80, 37, None, None, KvFormat::Q4_0),
    (8, 2, 128, 112, 35, Some(5.0), None, KvFormat::Q4_0),
    (4, 2, 72, 48, 100, Some(30.0), Some(17), KvFormat::Q4_0),
    (3, 1, 64, 64, 530, None, None, KvFormat::Q4_0),
    (1, 1, 7, 33, 65, None, Some(1), KvFormat::Q4_0),
    (2, 2, 40, 20, 50, None, None, KvFormat::Q4_0),
    (2, 1, 512, 512, 40, None, None, KvFormat::Q4_0),
];

fn cases() -> impl Iterator<Item = Case> {
    let mut random = Random(20);
    CASES.into_iter().map(move |(heads, kv_heads, k_dim, v_dim, tokens, soft_cap, window, format)| {
        let slots = tokens.div_ceil(PAGE) + 1;
        let shape = KvShape { layers: 2, slots, kv_heads, k_dim, v_dim, format };
        let params =
            AttentionParams { heads, scale: 1.0 / (k_dim as f32).sqrt(), soft_cap, window, whole: false };
        case(&mut random, shape, params, tokens)
    })
}

#[test]
fn plain_rust_is_the_naive_attention() {
    for case in cases() {
        let cpu = serial(Kernels::by_name("scalar").unwrap());
        let out = case.run(&cpu, case.tokens);
        for (i, (out, exact)) in out.iter().zip(case.naive()).enumerate() {
            // Scores reach a few hundred, each with a relative error of 1e-7, and their error is the weights' relative
            // error. Values reach 20.
            let bound = 2e-3;
            assert!((f64::from(*out) - exact).abs() <= bound, "{:?} {i}: {out} {exact}", case.params);
        }
        let mean = out.iter().zip(case.naive()).map(|(o, e)| (f64::from(*o) - e).abs()).sum::<f64>();
        assert!(
            mean / (out.len() as f64) < 2e-6,
            "{:?}: mean error {}",
            case.params,
            mean / out.len() as f64
        );
    }
}

/// The largest error of an element of a head whose largest magnitude is `largest`, from the format's definition.
fn largest_error(format: KvFormat, dim: usize, largest: f64) -> f64 {
    // A rotated element is at most `largest * sqrt(n)`, where n elements are rotated together. Rotating errors of at
    // most e back gives at most e * sqrt(n).
    let n = if dim.is_multiple_of(16) { f64::from(1 << dim.trailing_zeros()) } else { 1.0 };
    match format {
        KvFormat::F32 => 0.0,
        // Half a unit in the last place.
        KvFormat::F16 => largest * 2f64.powi(-11),
        KvFormat::Bf16 => largest * 2f64.powi(-8),
        // Half a step, and what rounding the scale to f16 takes from the largest code.
        KvFormat::Q8_0 => n * largest * (0.5 / 127.0 + 2f64.powi(-11)),
        // The block's squared error is at most that of the first candidate scale, largest / 7.8. It is half a step for
        // most elements, and 0.8 steps for those limited to 7: at most 0.8 sqrt(32) steps for the block's root, which
        // one element may have alone.
        KvFormat::Q4_0 => n * largest * (0.8 * 32f64.sqrt() / 7.8 + 2f64.powi(-11)),
        KvFormat::Kivi2 => panic!("tokens are not written in it"),
    }
}

#[test]
fn random_shapes_err_as_much_as_their_format_says() {
    let mut random = Random(25);
    for format in KvFormat::ALL {
        for _ in 0..12 {
            let kv_heads = 1 + random.below(3);
            let heads = kv_heads * (1 + random.below(7));
            let (k_dim, v_dim) = (1 + random.below(100), 1 + random.below(100));
            let tokens = 1 + random.below(90);
            let shape = KvShape { layers: 2, slots: tokens.div_ceil(PAGE), kv_heads, k_dim, v_dim, format };
            // Small scores, so that the bound of their error is small too.
            let params = AttentionParams { heads, scale: 1e-4, ..AttentionParams::default() };
            let mut case = case(&mut random, shape, params, tokens);
            let out = case.run(&serial(Kernels::by_name("scalar").unwrap()), tokens);
            for kernels in Kernels::available() {
                assert!(
                    bits(&case.run(&serial(kernels), 1 + random.below(tokens))) == bits(&out),
                    "{shape:?}"
                );
            }
            let stored = case.naive();
            case.shape.format = KvFormat::F32;
            let exact = case.naive();
            let largest = |x: &[f32]| x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
            let of_queries = case.q.chunks(k_dim).map(|q| q.iter().map(|q| f64::from(q.abs())).sum::<f64>());
            let score = f64::from(params.scale)
                * of_queries.fold(0.0, f64::max)
                * largest_error(format, k_dim, largest(&case.k));
            // An error of e in the scores changes a weight by a factor within exp(±2e).
            let bound = ((2.0 * score).exp() - 1.0) * largest(&case.v)
                + largest_error(format, v_dim, largest(&case.v));
            for ((out, stored), exact) in out.iter().zip(stored).zip(exact) {
                let out = f64::from(*out);
                // Sums in f32: 90 tokens of values of up to 20.
                assert!((out - stored).abs() < 1e-4, "{shape:?}: {out} {stored}");
                assert!((out - exact).abs() <= bound + 1e-4, "{shape:?}: {out} {exact} ± {bound}");
            }
        }
    }
}

#[test]
fn rows_may_see_their_whole_text() {
    let pool = Pool::new(3).unwrap();
    for mut case in cases().filter(|case| case.params.window.is_none()) {
        case.params.whole = true;
        let want = case.run(&serial(Kernels::by_name("scalar").unwrap()), case.tokens);
        for (i, (out, exact)) in want.iter().zip(case.naive()).enumerate() {
            assert!((f64::from(*out) - exact).abs() <= 2e-3, "{:?} {i}: {out} {exact}", case.params);
        }
        for kernels in Kernels::available() {
            let out = case.run(&serial(kernels), case.tokens);
            assert!(bits(&out) == bits(&want), "{kernels:?}: {:?}", case.params);
            let out = pool.install(|| case.run(&pool.cpu(kernels), case.tokens));
            assert!(bits(&out) == bits(&want), "{kernels:?}, 3 threads: {:?}", case.params);
        }
    }
}

#[test]
fn chunks_threads_and_instruction_sets_give_the_same_bits() {
    let pool = Pool::new(3).unwrap();
    for case in cases() {
        let want = case.run(&serial(Kernels::by_name("scalar").unwrap()), case.tokens);
        assert!(want.iter().all(|v| v.is_finite()), "stale memory was read");
        for kernels in Kernels::available() {
            let run = |cpu: &Cpu, chunk| case.run(cpu, chunk);
            same_in_chunks(&pool, kernels, case.tokens, &want, run, &format!("{:?}", case.params));
        }
    }
}

#[test]
fn sessions_do_not_see_each_other() {
    for format in KvFormat::ALL {
        sessions_share_pages_of(format);
    }
}

fn sessions_share_pages_of(format: KvFormat) {
    let mut random = Random(21);
    let shape = KvShape { layers: 2, slots: 6, kv_heads: 3, k_dim: 64, v_dim: 64, format };
    let params = AttentionParams { heads: 9, scale: 0.125, ..AttentionParams::default() };
    let case = case(&mut random, shape, params, 80);
    let row = 9 * 64;
    for threads in [1, 3] {
        let pool = Pool::new(threads).unwrap();
        let cpu = pool.cpu(Kernels::detect());
        let mut scratch = AttentionScratch::default();
        let alone = case.run(&cpu, 80);
        // A wave: rows 40 to 79 of the session, then only its row 3, as if another session shared its pages.
        let spans = [
            AttentionSpan { first_row: 0, rows: 40, start: 40, table: &case.table, recent: &[] },
            AttentionSpan { first_row: 40, rows: 0, start: 0, table: &[], recent: &[] },
            AttentionSpan { first_row: 41, rows: 1, start: 3, table: &case.table[..1], recent: &[] },
        ];
        let mut q = case.q[40 * row..].to_vec();
        q.extend(vec![f32::NAN; row]);
        q.extend(&case.q[3 * row..][..row]);
        let mut out = vec![0.0; 42 * row];
        pool.install(|| {
            attention(&cpu, &case.arena, 1, None, &spans, &params, &q, row, &mut out, row, &mut scratch);
        });
        assert!(bits(&out[..40 * row]) == bits(&alone[40 * row..]));
        assert!(bits(&out[41 * row..]) == bits(&alone[3 * row..][..row]));
        assert_eq!(out[40 * row..41 * row], vec![0.0; row]);
    }
}

#[test]
fn a_copied_page_is_the_page() {
    for format in KvFormat::ALL {
        copied_page_of(format);
    }
}

fn copied_page_of(format: KvFormat) {
    let mut random = Random(22);
    let shape = KvShape { layers: 2, slots: 3, kv_heads: 1, k_dim: 16, v_dim: 16, format };
    let params = AttentionParams { heads: 2, scale: 0.25, ..AttentionParams::default() };
    let mut case = case(&mut random, shape, params, 20);
    let cpu = serial(Kernels::detect());
    let before = case.run(&cpu, 20);
    let other = (case.table[0] + 1) % 3;
    (0..shape.layers).for_each(|layer| case.arena.copy_slot(layer, case.table[0], other));
    let first = core::mem::replace(&mut case.table[0], other);
    assert_eq!(bits(&case.run(&cpu, 20)), bits(&before));
    // A session that goes on in the copy does not change the first one's page.
    for offset in 8..PAGE {
        case.arena.write(Kernels::detect(), 1, other, offset, &random.floats(16), &random.floats(16));
    }
    case.table[0] = first;
    assert_eq!(bits(&case.run(&cpu, 20)), bits(&before));
}

#[test]
fn arenas_that_cannot_be_are_refused() {
    let shape = KvShape { layers: 2, slots: 3, kv_heads: 1, k_dim: 16, v_dim: 16, format: KvFormat::F16 };
    assert_eq!(KvArena::new(shape).unwrap().bytes(), 2 * 3 * 32 * 32 * 2);
    assert_eq!(shape.bytes(), Ok(2 * 3 * 32 * 32 * 2));
    assert!(matches!(KvShape { k_dim: 0, ..shape }.bytes(), Err(KvError::HeadDim { dim: 0 })));
    assert!(matches!(KvShape { v_dim: usize::MAX, ..shape }.bytes(), Err(KvError::HeadDim { .. })));
    assert!(matches!(KvArena::new(KvShape { slots: usize::MAX, ..shape }), Err(KvError::Memory(_))));
    assert!(matches!(KvArena::new(KvShape { slots: 1 << 50, ..shape }), Err(KvError::Memory(_))));
}
