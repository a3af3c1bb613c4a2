//! Attention of a wave's rows over the pages of the KV cache. It is causal, or over all rows of a text.
//!
//! Work is divided into items: a KV head and a *batch* of at most six queries that share its loads (the heads of its
//! group, at one or several consecutive positions). A query's context is divided into *segments* of `SEGMENT` pages.
//! Each segment is computed from an initial state and merged into the earlier ones in order. If there are too few items
//! to keep the threads busy (decoding a few sessions with long contexts), segments are computed in parallel.
//!
//! Invariant: segments are always merged in order. So a row's result does not depend on the other rows, on how its
//! prompt was chunked, or on the threads.

use crate::kernels::{Attend, Kernels, MAX_QUERIES, Part, QueryBatch, STATE_SUM, STATE_VALUES};
use crate::kv_arena::{KvArena, KvFormat, KvShape, MAX_HEAD_DIM, PAGE};
use crate::shared::Shared;
use crate::threads::Cpu;
use core::ops::Range;

/// Pages in a segment.
const SEGMENT: usize = 8;

/// Rows of one session at consecutive positions: rows `first_row..first_row + rows` of queries and output are positions
/// `start..start + rows`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    /// First row of the wave.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row.
    pub start: usize,
    /// Slot of each page of the session's context, including the pages of these rows.
    pub table: &'a [u32],
    /// The same for the arena of the newest tokens, if there is one ([`Recent`]).
    pub recent: &'a [u32],
}

/// The newest tokens of contexts, in an arena of their own and another format than the tokens before.
#[derive(Clone, Copy)]
pub struct Recent<'a> {
    /// Their arena. Its heads are those of the arena of the other tokens, and its format is [`KvFormat::F16`].
    pub arena: &'a KvArena,
    /// The layer in this arena.
    pub layer: usize,
    /// Each query sees the pages of this many tokens up to itself there, and the pages before in the other arena. So it
    /// does not depend on the query's wave which tokens it sees in which format.
    pub tokens: usize,
}

/// Parameters of the scores.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttentionParams {
    /// Query heads: a multiple of the arena's KV heads. Query head `h` reads KV head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Factor of the products, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Gemma 2's soft cap: `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// Number of tokens, itself included, that a query sees; `None` means all.
    pub window: Option<usize>,
    /// True if a query sees all rows of its span, later ones too. There is no window then.
    pub whole: bool,
}

/// Scratch memory of [`attention`]. It grows to the largest use and is reused.
#[derive(Default)]
pub struct AttentionScratch {
    states: Vec<f32>,
}

/// The queries of one item: consecutive positions of a span, and heads of one group.
#[derive(Clone, Copy)]
struct Batch<'a> {
    span: &'a AttentionSpan<'a>,
    row: usize,
    rows: usize,
    kv_head: usize,
    head: usize,
    heads: usize,
}

impl Batch<'_> {
    /// Segments that at least one of its queries sees.
    fn segments(&self, params: &AttentionParams) -> Range<usize> {
        let tokens = SEGMENT * PAGE;
        let first = self.span.start + self.row;
        let from = params.window.map_or(0, |w| (first + 1).saturating_sub(w));
        from / tokens..self.seen(params).div_ceil(tokens)
    }

    /// Number of leading tokens that cover all that its queries see.
    fn seen(&self, params: &AttentionParams) -> usize {
        self.span.start + if params.whole { self.span.rows } else { self.row + self.rows }
    }
}

/// Arguments of the call, shared by the threads.
struct Job<'a> {
    kernels: &'static Kernels,
    arena: &'a KvArena,
    layer: usize,
    recent: Option<Recent<'a>>,
    spans: &'a [AttentionSpan<'a>],
    params: AttentionParams,
    q: &'a [f32],
    q_stride: usize,
    out: Shared<f32>,
    out_stride: usize,
    /// Positions and heads of a batch, and number of such batches in a group.
    positions: usize,
    heads: usize,
    parts: usize,
    state: usize,
}

/// Computes attention of every row of `spans` over its context in `layer`, with its newest tokens in `recent`.
///
/// Row `r` of `q` starts at `r * q_stride` and contains `heads` queries of the arena's key dimension. Row `r` of `out`
/// starts at `r * out_stride` and receives `heads` values. The rows' own keys and values must have been written before.
///
/// # Panics
/// If a span exceeds `q`, `out`, its table or the arena, spans share rows, or `heads` is not a multiple of the arena's.
#[expect(clippy::too_many_arguments, reason = "two matrices with strides; a struct would only rename them")]
pub fn attention(
    cpu: &Cpu,
    arena: &KvArena,
    layer: usize,
    recent: Option<Recent<'_>>,
    spans: &[AttentionSpan<'_>],
    params: &AttentionParams,
    q: &[f32],
    q_stride: usize,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut AttentionScratch,
) {
    let shape = arena.shape();
    let heads = params.heads;
    assert!(layer < shape.layers, "no such layer in the KV cache");
    assert!(
        heads > 0 && shape.kv_heads > 0 && heads.is_multiple_of(shape.kv_heads),
        "heads must be a multiple of KV heads"
    );
    check(spans, &shape, heads, (q.len(), q_stride), (out.len(), out_stride));
    if let Some(recent) = recent {
        check_recent(&recent, &shape, spans);
    }

    let group = heads / shape.kv_heads;
    let parts = group.div_ceil(MAX_QUERIES);
    let job = Job {
        kernels: cpu.kernels,
        arena,
        layer,
        recent,
        spans,
        params: *params,
        q,
        q_stride,
        out: Shared(out.as_mut_ptr()),
        out_stride,
        positions: (MAX_QUERIES / group).max(1),
        heads: group.div_ceil(parts),
        parts,
        state: STATE_VALUES + shape.v_pad(),
    };
    let items: usize = spans.iter().map(|span| job.items(span)).sum();
    let longest =
        spans.iter().map(|span| (span.start + span.rows).div_ceil(SEGMENT * PAGE)).max().unwrap_or(0);
    if cpu.threads > 1 && longest > 1 && items < 4 * cpu.threads {
        job.by_segment(cpu, items, longest, scratch);
    } else {
        // A small item takes about 1 µs.
        let grain = if longest > 1 { 1 } else { 2 };
        cpu.for_each_chunk(items, grain, |range| {
            for item in range {
                job.whole(job.batch(item));
            }
        });
    }
}

/// Panics unless every access of the kernels is within its slice.
fn check(
    spans: &[AttentionSpan<'_>],
    shape: &KvShape,
    heads: usize,
    (q_len, q_stride): (usize, usize),
    (out_len, out_stride): (usize, usize),
) {
    // Saturating, because no stride is as large as a product that overflows.
    let (q_row, out_row) = (heads.saturating_mul(shape.k_dim), heads.saturating_mul(shape.v_dim));
    assert!(q_stride >= q_row && out_stride >= out_row, "rows overlap");
    let mut next_row = 0;
    for span in spans {
        assert!(span.first_row >= next_row, "spans must be in order of rows and share none");
        next_row = span.first_row.saturating_add(span.rows);
        if span.rows == 0 {
            continue;
        }
        let fits = |len: usize, stride: usize, row: usize| {
            (next_row - 1).checked_mul(stride).and_then(|s| s.checked_add(row)).is_some_and(|end| end <= len)
        };
        assert!(fits(q_len, q_stride, q_row) && fits(out_len, out_stride, out_row), "span past the rows");
        check_table(span, span.table, shape);
    }
}

/// Panics unless the pages of a span have slots in an arena.
fn check_table(span: &AttentionSpan<'_>, table: &[u32], shape: &KvShape) {
    let pages = span.start.saturating_add(span.rows).div_ceil(PAGE);
    assert!(pages <= table.len(), "block table too short");
    assert!(table[..pages].iter().all(|s| (*s as usize) < shape.slots), "slot past the arena");
}

/// Panics unless every access of the kernels to the newest tokens is within their arena.
fn check_recent(recent: &Recent<'_>, shape: &KvShape, spans: &[AttentionSpan<'_>]) {
    let own = recent.arena.shape();
    let heads = |shape: &KvShape| (shape.kv_heads, shape.k_dim, shape.v_dim);
    assert!(heads(&own) == heads(shape), "arenas of different heads");
    let rotated = [own, *shape].map(|shape| shape.format.rotated());
    assert!(rotated == [false; 2] && own.format == KvFormat::F16, "the newest tokens are F16");
    assert!(recent.layer < own.layers, "no such layer in the KV cache");
    for span in spans.iter().filter(|span| span.rows > 0) {
        check_table(span, span.recent, &own);
    }
}

impl<'a> Job<'a> {
    fn items(&self, span: &AttentionSpan<'_>) -> usize {
        span.rows.div_ceil(self.positions) * self.arena.shape().kv_heads * self.parts
    }

    /// Item `item` of all spans. Long and short contexts alternate, so that any range of items is average work.
    fn batch(&self, mut item: usize) -> Batch<'a> {
        let mut spans = self.spans.iter();
        let mut span = &self.spans[0];
        for next in spans.by_ref() {
            span = next;
            let items = self.items(span);
            if item < items {
                break;
            }
            item -= items;
        }
        let kv_heads = self.arena.shape().kv_heads;
        let blocks = span.rows.div_ceil(self.positions);
        let (block, rest) = (item / (kv_heads * self.parts), item % (kv_heads * self.parts));
        let block = if block.is_multiple_of(2) { block / 2 } else { blocks - 1 - block / 2 };
        let (kv_head, part) = (rest / self.parts, rest % self.parts);
        let row = block * self.positions;
        let group = self.params.heads / kv_heads;
        let first = (part * self.heads).min(group);
        Batch {
            span,
            row,
            rows: self.positions.min(span.rows - row),
            kv_head,
            head: kv_head * group + first,
            heads: self.heads.min(group - first),
        }
    }

    /// The queries of `batch`. If the cache's keys are rotated, the queries are rotated into `turned`.
    fn queries<'b>(&self, batch: &Batch<'_>, turned: &'b mut [f32]) -> [&'b [f32]; MAX_QUERIES]
    where
        'a: 'b,
    {
        let KvShape { k_dim, format, .. } = self.arena.shape();
        let mut queries: [&[f32]; MAX_QUERIES] = [&[]; MAX_QUERIES];
        let mut turned = turned.chunks_exact_mut(k_dim);
        let len = batch.rows * batch.heads;
        for (i, query) in queries.iter_mut().take(len).enumerate() {
            let (row, head) = (batch.row + i / batch.heads, batch.head + i % batch.heads);
            let start = (batch.span.first_row + row) * self.q_stride + head * k_dim;
            *query = &self.q[start..][..k_dim];
            if format.rotated()
                && let Some(turned) = turned.next()
            {
                turned.copy_from_slice(query);
                self.kernels.hadamard(turned);
                *query = turned;
            }
        }
        queries
    }

    /// Computes attention of `batch`, with the queries `queries`, over one segment, into `states`.
    fn segment(&self, batch: &Batch<'_>, queries: [&[f32]; MAX_QUERIES], segment: usize, states: &mut [f32]) {
        let shape = self.arena.shape();
        let mut positions = [0; MAX_QUERIES];
        let len = batch.rows * batch.heads;
        for (i, position) in positions.iter_mut().take(len).enumerate() {
            let row = if self.params.whole { batch.span.rows - 1 } else { batch.row + i / batch.heads };
            *position = batch.span.start + row;
        }
        let pages = batch.seen(&self.params).div_ceil(PAGE);
        let attend = Attend {
            layer: self.arena.layer(self.layer),
            slot_bytes: self.arena.slot_stride(),
            head_offset: batch.kv_head * shape.page_bytes(),
            page_bytes: shape.page_bytes(),
            k_dim: shape.k_dim,
            v_pad: shape.v_pad(),
            table: batch.span.table,
            scale: self.params.scale,
            soft_cap: self.params.soft_cap,
            window: self.params.window,
            pages: segment * SEGMENT..((segment + 1) * SEGMENT).min(pages),
            part: Part::All,
            starts: true,
        };
        let (first, last) = (positions[0], positions[len.saturating_sub(1)]);
        let mut queries = QueryBatch { len, queries, positions, states };
        let Some(Recent { arena, layer, tokens }) = self.recent else {
            return self.kernels.attend(shape.format, &attend, &mut queries);
        };
        let within = |page: usize| page.clamp(attend.pages.start, attend.pages.end);
        let sealed = attend.pages.start..within(Part::first_recent(last, tokens));
        let recent = within(Part::first_recent(first, tokens))..attend.pages.end;
        let attend = Attend { pages: sealed, part: Part::Sealed(tokens), ..attend };
        self.kernels.attend(shape.format, &attend, &mut queries);
        let shape = arena.shape();
        let attend = Attend {
            layer: arena.layer(layer),
            slot_bytes: arena.slot_stride(),
            head_offset: batch.kv_head * shape.page_bytes(),
            page_bytes: shape.page_bytes(),
            table: batch.span.recent,
            pages: recent,
            part: Part::Recent(tokens),
            starts: false,
            ..attend
        };
        self.kernels.attend(shape.format, &attend, &mut queries);
    }

    /// The same, but rotates the queries first, which is little work compared with a segment. A separate function, so
    /// that callers without rotation do not need its stack.
    #[inline(never)]
    fn turned_segment(&self, batch: &Batch<'_>, segment: usize, states: &mut [f32]) {
        let mut turned = [0.0; MAX_QUERIES * MAX_HEAD_DIM];
        let queries = self.queries(batch, &mut turned);
        self.segment(batch, queries, segment, states);
    }

    /// Merges `part` into `total`, query by query. A query that saw nothing of the segment has no sum and is skipped.
    fn join(&self, batch: &Batch<'_>, total: &mut [f32], part: &[f32]) {
        let len = batch.rows * batch.heads;
        for (total, part) in total.chunks_exact_mut(self.state).zip(part.chunks_exact(self.state)).take(len) {
            let empty = |state: &[f32]| state[STATE_SUM].iter().all(|s| *s == 0.0);
            if empty(part) {
                continue;
            }
            if empty(total) {
                total.copy_from_slice(part);
            } else {
                self.kernels.merge(total, part);
            }
        }
    }

    /// Divides by the weights' sum and writes the output. Rotates it back if the cache's values are rotated.
    #[expect(unsafe_code, reason = "threads write disjoint heads of one output")]
    fn finish(&self, batch: &Batch<'_>, states: &[f32]) {
        let KvShape { v_dim, format, .. } = self.arena.shape();
        for (i, state) in states.chunks_exact(self.state).take(batch.rows * batch.heads).enumerate() {
            let (row, head) = (batch.row + i / batch.heads, batch.head + i % batch.heads);
            let start = (batch.span.first_row + row) * self.out_stride + head * v_dim;
            // SAFETY: `check` has compared the last row of every span with the output's length. Rows do not overlap and
            // a row's head belongs to one item, so no other thread touches these floats.
            let out = unsafe { core::slice::from_raw_parts_mut(self.out.0.add(start), v_dim) };
            let sum: f32 = state[STATE_SUM].iter().sum();
            let inverse = 1.0 / sum;
            for (out, value) in out.iter_mut().zip(&state[STATE_VALUES..]) {
                *out = value * inverse;
            }
            if format.rotated() {
                self.kernels.hadamard(out);
            }
        }
    }

    /// Computes one item, from its first segment to the output.
    fn whole(&self, batch: Batch<'_>) {
        const SMALL: usize = 128;
        // Clearing memory for the largest head would take as long as a short context.
        let shape = self.arena.shape();
        let rotates = shape.format.rotated();
        let small = shape.v_pad() <= SMALL && (!rotates || shape.k_dim <= SMALL);
        match (small, rotates) {
            (true, false) => self.whole_in::<{ MAX_QUERIES * (STATE_VALUES + SMALL) }, 0>(batch),
            (true, true) => {
                self.whole_in::<{ MAX_QUERIES * (STATE_VALUES + SMALL) }, { MAX_QUERIES * SMALL }>(batch);
            }
            (false, false) => self.whole_in::<{ MAX_QUERIES * (STATE_VALUES + MAX_HEAD_DIM) }, 0>(batch),
            (false, true) => self
                .whole_in::<{ MAX_QUERIES * (STATE_VALUES + MAX_HEAD_DIM) }, { MAX_QUERIES * MAX_HEAD_DIM }>(
                    batch,
                ),
        }
    }

    /// With states of `SIZE` floats, and `TURNED` floats for rotated queries.
    fn whole_in<const SIZE: usize, const TURNED: usize>(&self, batch: Batch<'_>) {
        let mut turned = [0.0; TURNED];
        let queries = self.queries(&batch, &mut turned);
        let mut total = [0.0; SIZE];
        let mut segments = batch.segments(&self.params);
        if let Some(segment) = segments.next() {
            self.segment(&batch, queries, segment, &mut total);
        }
        if !segments.is_empty() {
            let mut part = [0.0; SIZE];
            for segment in segments {
                self.segment(&batch, queries, segment, &mut part);
                self.join(&batch, &mut total, &part);
            }
        }
        self.finish(&batch, &total);
    }

    /// Computes every segment of every item in parallel, then merges.
    fn by_segment(&self, cpu: &Cpu, items: usize, segments: usize, scratch: &mut AttentionScratch) {
        let size = MAX_QUERIES * self.state;
        let states = &mut scratch.states;
        if states.len() < items * segments * size {
            states.resize(items * segments * size, 0.0);
        }
        let states = &mut states[..items * segments * size];
        cpu.for_each_part(states, size, 1, |index, states| {
            let (item, segment) = (index / segments, index % segments);
            let batch = self.batch(item);
            if batch.segments(&self.params).contains(&segment) {
                if self.arena.shape().format.rotated() {
                    self.turned_segment(&batch, segment, states);
                } else {
                    self.segment(&batch, self.queries(&batch, &mut []), segment, states);
                }
            }
        });
        for (item, states) in states.chunks_exact_mut(segments * size).enumerate() {
            let batch = self.batch(item);
            let seen = batch.segments(&self.params);
            let (total, parts) = states[seen.start * size..seen.end * size].split_at_mut(size);
            for part in parts.chunks_exact(size) {
                self.join(&batch, total, part);
            }
            self.finish(&batch, total);
        }
    }
}
