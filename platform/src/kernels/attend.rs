//! Attention of a few queries over a range of pages: one pass, softmax rescaled page by page.
//!
//! The state of a query is a slice of floats: 16 partial sums of its weights at [`STATE_SUM`], the largest score so
//! far at [`STATE_MAX`], and from [`STATE_VALUES`] on the weighted sum of values, padded to 16.
//!
//! Invariant: what happens to a query's state on a page depends on the query and the tokens it sees, not on which
//! queries share the loads. Tokens it does not see are never multiplied: their memory may hold anything.

use super::vector::{exp, tanh};
use crate::kv::PAGE;
use crate::simd::{LANES, Simd, unroll};
use core::ops::Range;

/// Queries of a batch.
pub(crate) const MAX_QUERIES: usize = 6;
/// See the module.
pub(crate) const STATE_SUM: Range<usize> = 0..LANES;
/// See the module.
pub(crate) const STATE_MAX: usize = LANES;
/// See the module.
pub(crate) const STATE_VALUES: usize = 2 * LANES;

/// One KV head's pages and how to attend to them.
pub(crate) struct Attend<'a> {
    /// Memory of one layer.
    pub(crate) layer: &'a [u8],
    /// Bytes from one slot to the next.
    pub(crate) slot_bytes: usize,
    /// Where the head's page starts in a slot.
    pub(crate) head_offset: usize,
    /// Bytes of a page of one head.
    pub(crate) page_bytes: usize,
    /// Elements of a key.
    pub(crate) k_dim: usize,
    /// Elements of a value, padded to 16.
    pub(crate) v_pad: usize,
    /// Slot of each page.
    pub(crate) table: &'a [u32],
    /// What a product is scaled by.
    pub(crate) scale: f32,
    /// Gemma 2's `cap * tanh(score / cap)`.
    pub(crate) soft_cap: Option<f32>,
    /// How many tokens, itself included, a query sees; all where `None`.
    pub(crate) window: Option<usize>,
    /// Pages to attend to.
    pub(crate) pages: Range<usize>,
}

impl Attend<'_> {
    /// The tokens of `page` that the query at `position` sees.
    #[inline(always)]
    fn visible(&self, page: usize, position: usize) -> (usize, usize) {
        let first = page * PAGE;
        let from = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        (from.saturating_sub(first).min(PAGE), (position + 1).saturating_sub(first).min(PAGE))
    }
}

/// Queries that share loads, in order of position.
pub(crate) struct QueryBatch<'a> {
    pub(crate) len: usize,
    pub(crate) queries: [&'a [f32]; MAX_QUERIES],
    pub(crate) positions: [usize; MAX_QUERIES],
    /// One state after another. Set afresh by `attend`.
    pub(crate) states: &'a mut [f32],
}

/// How elements of the cache are stored.
pub(crate) trait Element: bytemuck::Pod {
    fn load<S: Simd>(s: S, v: &[Self; LANES]) -> S::F;
}

impl Element for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, v: &[Self; LANES]) -> S::F {
        s.load_f16(v)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, v: &[Self; LANES]) -> S::F {
        s.load(v)
    }
}

/// Attends every query of `batch` to the pages of `a`, from fresh states.
#[inline(always)]
pub(crate) fn attend<S: Simd, E: Element>(s: S, a: &Attend<'_>, batch: &mut QueryBatch<'_>) {
    let size = STATE_VALUES + a.v_pad;
    for state in batch.states.chunks_exact_mut(size).take(batch.len) {
        state.fill(0.0);
        state[STATE_MAX] = f32::NEG_INFINITY;
    }
    for page in a.pages.clone() {
        let start = a.table[page] as usize * a.slot_bytes + a.head_offset;
        let memory: &[E] = bytemuck::cast_slice(&a.layer[start..][..a.page_bytes]);
        let (keys, values) = memory.split_at(a.k_dim * PAGE);
        let mut first = 0;
        while first < batch.len {
            // Queries that see the same tokens of the page go together.
            let seen = a.visible(page, batch.positions[first]);
            let mut end = first + 1;
            while end < batch.len && a.visible(page, batch.positions[end]) == seen {
                end += 1;
            }
            if seen.0 < seen.1 {
                macro_rules! queries {
                    ($n:literal) => {
                        while S::QUERIES >= $n && end - first >= $n {
                            let queries: [&[f32]; $n] = core::array::from_fn(|i| batch.queries[first + i]);
                            let states = &mut batch.states[first * size..][..$n * size];
                            one_page::<S, E, $n>(s, a, keys, values, &queries, states, seen);
                            first += $n;
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
    keys: &[E],
    values: &[E],
    queries: &[&[f32]; R],
    states: &mut [f32],
    (from, to): (usize, usize),
) {
    let size = STATE_VALUES + a.v_pad;
    let mut scores = [[s.splat(0.0); 2]; R];
    let queries = queries.map(|q| &q[..a.k_dim]);
    for (d, keys) in keys.as_chunks::<PAGE>().0.iter().enumerate() {
        let (halves, _) = keys.as_chunks::<LANES>();
        let (k0, k1) = (E::load(s, &halves[0]), E::load(s, &halves[1]));
        unroll!(r < R, {
            let q = s.splat(queries[r][d]);
            scores[r] = [s.fma(q, k0, scores[r][0]), s.fma(q, k1, scores[r][1])];
        });
    }

    let scale = s.splat(a.scale);
    let mut weights = [[0.0f32; PAGE]; R];
    let mut shifts = [0.0f32; R];
    let mut corrections = [f32::NEG_INFINITY; LANES];
    unroll!(r < R, {
        let mut score = [s.mul(scores[r][0], scale), s.mul(scores[r][1], scale)];
        if let Some(cap) = a.soft_cap {
            score = [soft_cap(s, score[0], cap), soft_cap(s, score[1], cap)];
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
    // All queries' at once.
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
    while S::VALUES >= 4 && a.v_pad - column >= 4 * LANES {
        sum_values::<S, E, R, 4>(s, a.v_pad, values, column, &weights, &corrections, states, (from, to));
        column += 4 * LANES;
    }
    while S::VALUES >= 2 && a.v_pad - column >= 2 * LANES {
        sum_values::<S, E, R, 2>(s, a.v_pad, values, column, &weights, &corrections, states, (from, to));
        column += 2 * LANES;
    }
    while column < a.v_pad {
        sum_values::<S, E, R, 1>(s, a.v_pad, values, column, &weights, &corrections, states, (from, to));
        column += LANES;
    }
}

#[inline(always)]
fn soft_cap<S: Simd>(s: S, v: S::F, cap: f32) -> S::F {
    s.mul(tanh(s, s.div(v, s.splat(cap))), s.splat(cap))
}

/// Adds the weighted values of tokens `from..to` to columns `column..column + 16 V` of the states.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a part of one kernel, apart for its constants")]
fn sum_values<S: Simd, E: Element, const R: usize, const V: usize>(
    s: S,
    v_pad: usize,
    values: &[E],
    column: usize,
    weights: &[[f32; PAGE]; R],
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
            acc[r][v] = s.mul(s.load(&state[v]), correction);
        });
    });
    for (t, row) in values.chunks_exact(v_pad).enumerate().take(to.min(PAGE)).skip(from) {
        let (row, _) = row[column..][..V * LANES].as_chunks::<LANES>();
        let mut loaded = [s.splat(0.0); V];
        unroll!(v < V, {
            loaded[v] = E::load(s, &row[v]);
        });
        unroll!(r < R, {
            let weight = s.splat(weights[r][t]);
            unroll!(v < V, {
                acc[r][v] = s.fma(weight, loaded[v], acc[r][v]);
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

/// Joins the state of a later segment into that of the earlier ones.
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
