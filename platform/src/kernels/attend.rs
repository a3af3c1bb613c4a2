//! Attention of a few queries over a range of pages, in one pass: the softmax is rescaled page by page.
//!
//! The state of a query is a slice of floats: 16 partial sums of its weights at [`STATE_SUM`], the largest score so far
//! at [`STATE_MAX`], and the weighted sum of values, padded to 16, from [`STATE_VALUES`] on.
//!
//! A page of codes has scales, one for each token and [`KV_BLOCK`] elements of a head. Scales of keys are in the lanes
//! of their tokens: the products of a block are summed first, then scaled. Scales of values multiply the tokens'
//! weights. Where blocks have a least value too, a block of keys is one dimension: its scale multiplies the query, and
//! the query times the least values is the same for all tokens of the page. The weights times the least values of a
//! block of values are the same for all its dimensions.
//!
//! Invariant: the change of a query's state on a page depends only on the query and the tokens that it sees, not on the
//! queries that share the loads. Tokens that it does not see are never multiplied, so that their memory may contain
//! anything.

use super::kv_element::Element;
use super::vector::{capped, exp};
use crate::kv_arena::{KV_BLOCK, PAGE};
use crate::simd::{LANES, Simd, unroll};
use core::ops::Range;

/// Most queries in a batch.
pub(crate) const MAX_QUERIES: usize = 6;
/// Position of the sum in a state. See the module.
pub(crate) const STATE_SUM: Range<usize> = 0..LANES;
/// Position of the largest score in a state. See the module.
pub(crate) const STATE_MAX: usize = LANES;
/// Position of the values in a state. See the module.
pub(crate) const STATE_VALUES: usize = 2 * LANES;

/// The pages of one KV head, and the parameters of attention.
pub(crate) struct Attend<'a> {
    /// Memory of one layer.
    pub(crate) layer: &'a [u8],
    /// Bytes from one slot to the next.
    pub(crate) slot_bytes: usize,
    /// Offset of the head's page in a slot.
    pub(crate) head_offset: usize,
    /// Bytes of a page of one head.
    pub(crate) page_bytes: usize,
    /// Elements of a key.
    pub(crate) k_dim: usize,
    /// Elements of a value, padded to 16.
    pub(crate) v_pad: usize,
    /// Slot of each page.
    pub(crate) table: &'a [u32],
    /// Factor of the products.
    pub(crate) scale: f32,
    /// Gemma 2's soft cap: `cap * tanh(score / cap)`.
    pub(crate) soft_cap: Option<f32>,
    /// Number of tokens, itself included, that a query sees; `None` means all.
    pub(crate) window: Option<usize>,
    /// Pages to attend to.
    pub(crate) pages: Range<usize>,
    /// Which of them queries see.
    pub(crate) part: Part,
    /// True if states are to be initialized first. If not, these pages follow those that the states are of.
    pub(crate) starts: bool,
}

/// The part of a context that one arena has.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// All of it.
    All,
    /// The pages before those that the query's newest tokens, this many, are in.
    Sealed(usize),
    /// The pages that the query's newest tokens, this many, are in.
    Recent(usize),
}

impl Part {
    /// The first page that the newest `recent` tokens of the query at `position` are in.
    #[inline(always)]
    pub(crate) fn first_recent(position: usize, recent: usize) -> usize {
        (position + 1).saturating_sub(recent) / PAGE
    }

    /// Whether the query at `position` sees `page` in this part.
    #[inline(always)]
    fn has(self, page: usize, position: usize) -> bool {
        match self {
            Self::All => true,
            Self::Sealed(recent) => page < Self::first_recent(position, recent),
            Self::Recent(recent) => page >= Self::first_recent(position, recent),
        }
    }
}

impl Attend<'_> {
    /// Tokens of `page` that the query at `position` sees.
    #[inline(always)]
    fn visible(&self, page: usize, position: usize) -> (usize, usize) {
        if !self.part.has(page, position) {
            return (0, 0);
        }
        let first = page * PAGE;
        let from = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        (from.saturating_sub(first).min(PAGE), (position + 1).saturating_sub(first).min(PAGE))
    }
}

/// Queries that share loads, ordered by position.
pub(crate) struct QueryBatch<'a> {
    pub(crate) len: usize,
    pub(crate) queries: [&'a [f32]; MAX_QUERIES],
    pub(crate) positions: [usize; MAX_QUERIES],
    /// The states, one after another. `attend` initializes them if [`Attend::starts`] says so.
    pub(crate) states: &'a mut [f32],
}

/// The page of one head, in the layout of `kv_arena`. Scales are empty if the elements have none.
struct Page<'a, E: Element> {
    /// The 32 tokens of each key dimension.
    keys: &'a [[E::Lanes; PAGE / LANES]],
    /// `[32 tokens][value dimension, padded to 16]`.
    values: &'a [E::Lanes],
    /// `[block of the key][32 tokens]`, or `[32 dimensions]` of each block if elements are affine. f16 bits.
    k_scales: &'a [[u16; PAGE]],
    /// Least values in the order of the scales; empty if elements are not affine.
    k_minima: &'a [[u16; PAGE]],
    /// `[block of the value][32 tokens]`, f16 bits.
    v_scales: &'a [[u16; PAGE]],
    /// Least values in the order of the scales; empty if elements are not affine.
    v_minima: &'a [[u16; PAGE]],
}

impl<'a, E: Element> Page<'a, E> {
    #[inline(always)]
    fn new(a: &Attend<'a>, page: usize) -> Self {
        let start = a.table[page] as usize * a.slot_bytes + a.head_offset;
        let memory = &a.layer[start..][..a.page_bytes];
        let keys = a.k_dim * (PAGE / LANES) * size_of::<E::Lanes>();
        let values = a.v_pad / LANES * PAGE * size_of::<E::Lanes>();
        let (keys, memory) = memory.split_at(keys);
        let (values, scales) = memory.split_at(values);
        let scales: &[[u16; PAGE]] =
            if const { E::SCALED } { bytemuck::cast_slice(scales).as_chunks().0 } else { &[] };
        let (of_keys, of_values) = if const { E::SCALED } {
            (a.k_dim.div_ceil(KV_BLOCK), a.v_pad.div_ceil(KV_BLOCK))
        } else {
            (0, 0)
        };
        let (k_scales, scales) = scales.split_at(of_keys);
        let (k_minima, scales) = scales.split_at(if const { E::AFFINE } { of_keys } else { 0 });
        let (v_scales, v_minima) = scales.split_at(of_values);
        Self {
            keys: bytemuck::cast_slice(keys),
            values: bytemuck::cast_slice(values),
            k_scales,
            k_minima,
            v_scales,
            v_minima,
        }
    }
}

/// Computes attention of every query of `batch` over the pages of `a`.
#[inline(always)]
pub(crate) fn attend<S: Simd, E: Element>(s: S, a: &Attend<'_>, batch: &mut QueryBatch<'_>) {
    let size = STATE_VALUES + a.v_pad;
    if a.starts {
        for state in batch.states.chunks_exact_mut(size).take(batch.len) {
            state.fill(0.0);
            state[STATE_MAX] = f32::NEG_INFINITY;
        }
    }
    for page in a.pages.clone() {
        let memory = Page::<E>::new(a, page);
        let mut first = 0;
        while first < batch.len {
            // Queries that see the same tokens of the page are processed together.
            let seen = a.visible(page, batch.positions[first]);
            let mut end = first + 1;
            while end < batch.len && a.visible(page, batch.positions[end]) == seen {
                end += 1;
            }
            if seen.0 < seen.1 {
                macro_rules! queries {
                    ($n:literal) => {
                        if const { S::QUERIES >= $n } {
                            while end - first >= $n {
                                let queries: [&[f32]; $n] =
                                    core::array::from_fn(|i| batch.queries[first + i]);
                                let states = &mut batch.states[first * size..][..$n * size];
                                one_page::<S, E, $n>(s, a, &memory, &queries, states, seen);
                                first += $n;
                            }
                        }
                    };
                }
                queries!(6);
                queries!(4);
                queries!(3);
                queries!(2);
                queries!(1);
            }
            first = end;
        }
    }
}

#[inline(always)]
fn one_page<S: Simd, E: Element, const R: usize>(
    s: S,
    a: &Attend<'_>,
    page: &Page<'_, E>,
    queries: &[&[f32]; R],
    states: &mut [f32],
    (from, to): (usize, usize),
) {
    let size = STATE_VALUES + a.v_pad;
    let queries = queries.map(|q| &q[..a.k_dim]);
    let mut scores;
    if const { E::AFFINE } {
        scores = affine_scores::<S, E, R>(s, page, &queries);
    } else if const { E::SCALED } {
        scores = [[s.splat(0.0); 2]; R];
        let blocks = page.keys.chunks(KV_BLOCK).zip(page.k_scales);
        for (block, (keys, scales)) in blocks.enumerate() {
            let sums = products::<S, E, R>(s, keys, &queries.map(|q| &q[block * KV_BLOCK..]));
            let (halves, _) = scales.as_chunks::<LANES>();
            let (s0, s1) = (s.load_f16(&halves[0]), s.load_f16(&halves[1]));
            unroll!(r < R, {
                scores[r] = [s.fma(sums[r][0], s0, scores[r][0]), s.fma(sums[r][1], s1, scores[r][1])];
            });
        }
    } else {
        scores = products::<S, E, R>(s, page.keys, &queries);
    }

    let scale = s.splat(a.scale);
    let mut weights = [[0.0f32; PAGE]; R];
    let mut shifts = [0.0f32; R];
    let mut corrections = [f32::NEG_INFINITY; LANES];
    unroll!(r < R, {
        let mut score = [s.mul(scores[r][0], scale), s.mul(scores[r][1], scale)];
        if let Some(cap) = a.soft_cap {
            score = [capped(s, score[0], cap), capped(s, score[1], cap)];
        }
        if from > 0 || to < PAGE {
            let weights = &mut weights[r];
            let (halves, _) = weights.as_chunks_mut::<LANES>();
            s.store(score[0], &mut halves[0]);
            s.store(score[1], &mut halves[1]);
            weights[..from].fill(f32::NEG_INFINITY);
            weights[to..].fill(f32::NEG_INFINITY);
            let (halves, _) = weights.as_chunks::<LANES>();
            score = [s.load(&halves[0]), s.load(&halves[1])];
        }
        scores[r] = score;
        let before = states[r * size + STATE_MAX];
        let here = s.reduce_max(s.max(score[0], score[1]));
        let largest = if here > before { here } else { before };
        states[r * size + STATE_MAX] = largest;
        shifts[r] = largest;
        corrections[r] = before - largest;
    });
    // For all queries at once.
    let scaled = exp(s, s.load(&corrections));
    s.store(scaled, &mut corrections);
    unroll!(r < R, {
        let shift = s.splat(shifts[r]);
        let score = [exp(s, s.sub(scores[r][0], shift)), exp(s, s.sub(scores[r][1], shift))];
        let (halves, _) = weights[r].as_chunks_mut::<LANES>();
        s.store(score[0], &mut halves[0]);
        s.store(score[1], &mut halves[1]);
        if let Some(sum) = states[r * size..].first_chunk_mut::<LANES>() {
            let correction = s.splat(corrections[r]);
            s.store(s.fma(s.load(sum), correction, s.add(score[0], score[1])), sum);
        }
    });

    let mut column = 0;
    // Wide groups come first, so that a group of at most two vectors lies within a block, and a group of four covers
    // two blocks.
    macro_rules! columns {
        ($v:literal) => {
            if const { S::VALUES >= $v } {
                while a.v_pad - column >= $v * LANES {
                    let seen = (from, to);
                    let block = column / KV_BLOCK;
                    let wide = const { $v * LANES > KV_BLOCK };
                    let mut minima = [[0.0; R]; 2];
                    if const { E::AFFINE } {
                        minima[0] = sum_minima(s, &weights, &page.v_minima[block], seen);
                        if wide {
                            minima[1] = sum_minima(s, &weights, &page.v_minima[block + 1], seen);
                        }
                    }
                    let (low, high);
                    let weights = if const { E::SCALED } {
                        low = scale_weights(s, &weights, &page.v_scales[block]);
                        if wide {
                            high = scale_weights(s, &weights, &page.v_scales[block + 1]);
                            [&low, &high]
                        } else {
                            [&low; 2]
                        }
                    } else {
                        [&weights; 2]
                    };
                    sum_values::<S, E, R, $v>(
                        s,
                        a.v_pad,
                        page.values,
                        column,
                        weights,
                        &minima,
                        &corrections,
                        states,
                        seen,
                    );
                    column += $v * LANES;
                }
            }
        };
    }
    columns!(4);
    columns!(2);
    columns!(1);
}

/// Every query times every token's key, or part of both, without scales.
#[inline(always)]
fn products<S: Simd, E: Element, const R: usize>(
    s: S,
    keys: &[[E::Lanes; PAGE / LANES]],
    queries: &[&[f32]; R],
) -> [[S::F; 2]; R] {
    let mut sums = [[s.splat(0.0); 2]; R];
    for (d, [first, second]) in keys.iter().enumerate() {
        let (k0, k1) = (E::load(s, first), E::load(s, second));
        unroll!(r < R, {
            let q = s.splat(queries[r][d]);
            sums[r] = [s.fma(q, k0, sums[r][0]), s.fma(q, k1, sums[r][1])];
        });
    }
    sums
}

/// The products with the keys of an affine page.
#[inline(always)]
fn affine_scores<S: Simd, E: Element, const R: usize>(
    s: S,
    page: &Page<'_, E>,
    queries: &[&[f32]; R],
) -> [[S::F; 2]; R] {
    let mut scores = [[s.splat(0.0); 2]; R];
    let mut minima = [s.splat(0.0); R];
    let blocks = page.keys.chunks(KV_BLOCK).zip(page.k_scales.iter().zip(page.k_minima));
    for (block, (keys, (scales, least))) in blocks.enumerate() {
        let (scales, _) = scales.as_chunks::<LANES>();
        let (least, _) = least.as_chunks::<LANES>();
        let (s0, s1) = (s.load_f16(&scales[0]), s.load_f16(&scales[1]));
        let (m0, m1) = (s.load_f16(&least[0]), s.load_f16(&least[1]));
        let mut scaled = [[0.0f32; KV_BLOCK]; R];
        unroll!(r < R, {
            let query = &queries[r][block * KV_BLOCK..][..keys.len()];
            scaled[r][..keys.len()].copy_from_slice(query);
            let (halves, _) = scaled[r].as_chunks_mut::<LANES>();
            let (q0, q1) = (s.load(&halves[0]), s.load(&halves[1]));
            minima[r] = s.fma(q1, m1, s.fma(q0, m0, minima[r]));
            s.store(s.mul(q0, s0), &mut halves[0]);
            s.store(s.mul(q1, s1), &mut halves[1]);
        });
        let mut queries: [&[f32]; R] = [&[]; R];
        unroll!(r < R, {
            queries[r] = &scaled[r];
        });
        let sums = products::<S, E, R>(s, keys, &queries);
        unroll!(r < R, {
            scores[r] = [s.add(scores[r][0], sums[r][0]), s.add(scores[r][1], sums[r][1])];
        });
    }
    unroll!(r < R, {
        let least = s.splat(s.reduce_add(minima[r]));
        scores[r] = [s.add(scores[r][0], least), s.add(scores[r][1], least)];
    });
    scores
}

/// The weights of tokens `from..to` times the least values of one block of their values, summed.
#[inline(always)]
fn sum_minima<S: Simd, const R: usize>(
    s: S,
    weights: &[[f32; PAGE]; R],
    minima: &[u16; PAGE],
    (from, to): (usize, usize),
) -> [f32; R] {
    let (halves, _) = minima.as_chunks::<LANES>();
    let (m0, m1) = (s.load_f16(&halves[0]), s.load_f16(&halves[1]));
    let mut sums = [0.0; R];
    unroll!(r < R, {
        let (weights, _) = weights[r].as_chunks::<LANES>();
        let mut products = [s.mul(s.load(&weights[0]), m0), s.mul(s.load(&weights[1]), m1)];
        if from > 0 || to < PAGE {
            let mut all = [0.0f32; PAGE];
            let (halves, _) = all.as_chunks_mut::<LANES>();
            s.store(products[0], &mut halves[0]);
            s.store(products[1], &mut halves[1]);
            all[..from].fill(0.0);
            all[to..].fill(0.0);
            let (halves, _) = all.as_chunks::<LANES>();
            products = [s.load(&halves[0]), s.load(&halves[1])];
        }
        sums[r] = s.reduce_add(s.add(products[0], products[1]));
    });
    sums
}

/// The weights times the scales of one block of the tokens' values. Results for tokens that are not seen are undefined.
#[inline(always)]
fn scale_weights<S: Simd, const R: usize>(
    s: S,
    weights: &[[f32; PAGE]; R],
    scales: &[u16; PAGE],
) -> [[f32; PAGE]; R] {
    let (halves, _) = scales.as_chunks::<LANES>();
    let (s0, s1) = (s.load_f16(&halves[0]), s.load_f16(&halves[1]));
    let mut out = [[0.0; PAGE]; R];
    unroll!(r < R, {
        let (weights, _) = weights[r].as_chunks::<LANES>();
        let (out, _) = out[r].as_chunks_mut::<LANES>();
        s.store(s.mul(s.load(&weights[0]), s0), &mut out[0]);
        s.store(s.mul(s.load(&weights[1]), s1), &mut out[1]);
    });
    out
}

/// Adds the weighted values of tokens `from..to` to columns `column..column + 16 V` of the states. If elements are
/// scaled, the second weights and minima are for the third and fourth vector.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a part of one kernel, apart for its constants")]
fn sum_values<S: Simd, E: Element, const R: usize, const V: usize>(
    s: S,
    v_pad: usize,
    values: &[E::Lanes],
    column: usize,
    weights: [&[[f32; PAGE]; R]; 2],
    minima: &[[f32; R]; 2],
    corrections: &[f32; LANES],
    states: &mut [f32],
    (from, to): (usize, usize),
) {
    let size = STATE_VALUES + v_pad;
    let mut acc = [[s.splat(0.0); V]; R];
    unroll!(r < R, {
        let (state, _) = states[r * size + STATE_VALUES + column..][..V * LANES].as_chunks::<LANES>();
        let correction = s.splat(corrections[r]);
        unroll!(v < V, {
            acc[r][v] = if const { E::AFFINE } {
                s.fma(s.load(&state[v]), correction, s.splat(minima[v * LANES / KV_BLOCK % 2][r]))
            } else {
                s.mul(s.load(&state[v]), correction)
            };
        });
    });
    for (t, row) in values.chunks_exact(v_pad / LANES).enumerate().take(to.min(PAGE)).skip(from) {
        let row = &row[column / LANES..][..V];
        let mut loaded = [s.splat(0.0); V];
        unroll!(v < V, {
            loaded[v] = E::load(s, &row[v]);
        });
        unroll!(r < R, {
            let weight = [s.splat(weights[0][r][t]), s.splat(weights[1][r][t])];
            unroll!(v < V, {
                let part = if const { E::SCALED } { v * LANES / KV_BLOCK } else { 0 };
                acc[r][v] = s.fma(weight[part], loaded[v], acc[r][v]);
            });
        });
    }
    unroll!(r < R, {
        let (state, _) = states[r * size + STATE_VALUES + column..][..V * LANES].as_chunks_mut::<LANES>();
        unroll!(v < V, {
            s.store(acc[r][v], &mut state[v]);
        });
    });
}

/// Merges the state of a later segment into the state of the earlier ones.
#[inline(always)]
pub(crate) fn merge<S: Simd>(s: S, into: &mut [f32], part: &[f32]) {
    let (before, here) = (into[STATE_MAX], part[STATE_MAX]);
    let largest = if here > before { here } else { before };
    let old = exp(s, s.splat(before - largest));
    let new = exp(s, s.splat(here - largest));
    for (into, part) in into.as_chunks_mut::<LANES>().0.iter_mut().zip(part.as_chunks::<LANES>().0) {
        s.store(s.fma(s.load(part), new, s.mul(s.load(into), old)), into);
    }
    into[STATE_MAX] = largest;
}
