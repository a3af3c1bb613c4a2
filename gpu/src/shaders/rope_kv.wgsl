// Rotary embedding (arXiv 2104.09864) and the KV cache's write. Rows of `qkv` hold HEADS queries and KV_HEADS keys of KEY
// floats, then KV_HEADS values of VALUE. Queries go to `queries`; keys and values as halves to the cache, laid out
// [slot][KV head][offset in the page][dimension]. A lane takes two neighbouring elements. The angle of position p is the sum
// of those of its upper and lower parts, whose cosines and sines are in `angles`: [lower 0..256, upper ...][ROPE / 2].
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> queries: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;

const STRIDE: u32 = (HEADS + KV_HEADS) * KEY + KV_HEADS * VALUE;

// Element e of the head that starts at `base`, turned.
fn turned(base: u32, e: u32, position: u32) -> f32 {
    let v = qkv[base + e];
    if (e >= ROPE) { return v; }
    var pair: u32;
    var other: u32;
    var second: bool;
    if (HALVES == 1u) {
        second = e >= ROPE / 2u;
        pair = select(e, e - ROPE / 2u, second);
        other = select(e + ROPE / 2u, e - ROPE / 2u, second);
    } else {
        second = (e & 1u) == 1u;
        pair = e / 2u;
        other = e ^ 1u;
    }
    let low = angles[(position & 255u) * (ROPE / 2u) + pair];
    let high = angles[(256u + (position >> 8u)) * (ROPE / 2u) + pair];
    let cosine = high.x * low.x - high.y * low.y;
    let sine = high.y * low.x + high.x * low.y;
    let o = qkv[base + other];
    return select(v * cosine - o * sine, v * cosine + o * sine, second);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let e = 2u * (group.x * WG + lane);
    let row = group.y;
    if (e >= STRIDE) { return; }
    let position = row_position(row);
    let kv = row_kv(row);
    let start = row * STRIDE;
    let turning = (HEADS + KV_HEADS) * KEY;
    if (e < turning) {
        let head = e / KEY;
        let base = start + head * KEY;
        let a = turned(base, e % KEY, position);
        let b = turned(base, e % KEY + 1u, position);
        if (head < HEADS) {
            queries[row * HEADS * KEY + e] = a;
            queries[row * HEADS * KEY + e + 1u] = b;
        } else {
            let at = ((kv / PAGE) * KV_HEADS + head - HEADS) * PAGE + kv % PAGE;
            keys[(at * KEY + e % KEY) / 2u] = pack2x16float(vec2<f32>(a, b));
        }
    } else {
        let v = e - turning;
        let at = ((kv / PAGE) * KV_HEADS + v / VALUE) * PAGE + kv % PAGE;
        values[(at * VALUE + v % VALUE) / 2u] = pack2x16float(vec2<f32>(qkv[start + e], qkv[start + e + 1u]));
    }
}
