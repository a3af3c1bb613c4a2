// As `rope_kv`, but queries, keys and values are first scaled and shifted, and queries and keys may get an RMS norm
// (arXiv 1910.07467), per head or over all heads. A workgroup processes one span of a row: SPAN_QUERY elements of its
// queries, SPAN_KEY of its keys, or SPAN_VALUE of its values. A span is the elements that share a norm.
@group(0) @binding(1) var<storage, read> qkv: array<vec2<f32>>;
// The bias of a row's elements if BIAS is 1; the weights of the norms, for a span of queries and a span of keys, if
// NORM is 1; then the scales of queries, keys and values if SCALED is 1.
@group(0) @binding(2) var<storage, read> heads_extra: array<f32>;

const NORMS_AT: u32 = BIAS * STRIDE;
const SCALES_AT: u32 = NORMS_AT + NORM * (SPAN_QUERY + SPAN_KEY);
const QUERY_SPANS: u32 = HEADS * KEY / SPAN_QUERY;
const KEY_SPANS: u32 = KV_HEADS * KEY / SPAN_KEY;

// Elements e and e + 1 of a row, scaled and shifted. kind is 0 for queries, 1 for keys, 2 for values.
fn shifted(row: u32, e: u32, kind: u32) -> vec2<f32> {
    var v = qkv[(row * STRIDE + e) / 2u];
    if (SCALED == 1u) { v *= heads_extra[SCALES_AT + kind]; }
    if (BIAS == 1u) { v += vec2<f32>(heads_extra[e], heads_extra[e + 1u]); }
    return v;
}

// A span: its kind, its first element, and the factor of the norm.
struct Span {
    kind: u32,
    first: u32,
    scale: f32,
}

// Elements e and e + 1 with the norm applied.
fn normed(row: u32, e: u32, span: Span) -> vec2<f32> {
    var v = shifted(row, e, span.kind) * span.scale;
    if (NORM == 1u && span.kind < 2u) {
        let at = NORMS_AT + span.kind * SPAN_QUERY + e - span.first;
        v *= vec2<f32>(heads_extra[at], heads_extra[at + 1u]);
    }
    return v;
}

// Element e rotated, where dimensions i and i + ROPE / 2 of a head are pairs.
fn turned(row: u32, e: u32, v: f32, span: Span, position: u32) -> f32 {
    let d = e % KEY;
    if (d >= ROPE) { return v; }
    let second = d >= ROPE / 2u;
    let other = select(e + ROPE / 2u, e - ROPE / 2u, second);
    let a = angle(select(d, d - ROPE / 2u, second), position);
    let o = normed(row, other & ~1u, span)[other % 2u];
    return select(v * a.x - o * a.y, v * a.x + o * a.y, second);
}

// Elements e and e + 1 with the norm applied, and rotated.
fn rotated(row: u32, e: u32, span: Span, position: u32) -> vec2<f32> {
    let v = normed(row, e, span);
    if (HALVES == 1u && span.kind < 2u) {
        let a = turned(row, e, v.x, span, position);
        return vec2<f32>(a, turned(row, e + 1u, v.y, span, position));
    }
    return turn_neighbours(v, e, position);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let position = row_position(row);
    var span = Span(0u, group.x * SPAN_QUERY, 1.0);
    var length = SPAN_QUERY;
    // As `span.kind`. It does not depend on the sum of the norm, which Chromium takes for different in every lane.
    var kind = 0u;
    if (group.x >= QUERY_SPANS) {
        kind = 1u;
        span = Span(1u, HEADS * KEY + (group.x - QUERY_SPANS) * SPAN_KEY, 1.0);
        length = SPAN_KEY;
    }
    if (group.x >= QUERY_SPANS + KEY_SPANS) {
        kind = 2u;
        span = Span(2u, TURNING + (group.x - QUERY_SPANS - KEY_SPANS) * SPAN_VALUE, 1.0);
        length = SPAN_VALUE;
    }
    if (NORM == 1u) {
        var squares = 0.0;
        for (var i = 2u * lane; i < length; i += 2u * WG) {
            let v = shifted(row, span.first + i, span.kind);
            squares += dot(v, v);
        }
        let scale = inverseSqrt(workgroup_sum(lane, squares) / f32(length) + EPSILON);
        if (span.kind < 2u) { span.scale = scale; }
    }
    store_span(lane, row, kind, length, span, position);
}
