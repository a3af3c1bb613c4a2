// Rotary embedding (arXiv 2104.09864), and storing its results. A row of a projection contains HEADS queries and
// KV_HEADS keys of KEY floats, then KV_HEADS values of VALUE floats. Queries go to `queries`, keys and values to the
// cache, as a part `kv_*_store` defines. The angle of position p is the sum of the angles of its upper and lower parts.
// Their cosines and sines are in `angles`: [lower 0..256, upper ...][ROPE / 2].
@group(0) @binding(5) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> queries: array<vec2<f32>>;

const STRIDE: u32 = (HEADS + KV_HEADS) * KEY + KV_HEADS * VALUE;
// Number of elements of queries and keys.
const TURNING: u32 = (HEADS + KV_HEADS) * KEY;

// Cosine and sine of a pair of dimensions at a position.
fn angle(pair: u32, position: u32) -> vec2<f32> {
    let low = angles[(position & 255u) * (ROPE / 2u) + pair];
    let high = angles[(256u + (position >> 8u)) * (ROPE / 2u) + pair];
    return vec2<f32>(high.x * low.x - high.y * low.y, high.y * low.x + high.x * low.y);
}

// Rotates elements e and e + 1 of a row, where adjacent elements are pairs.
fn turn_neighbours(v: vec2<f32>, e: u32, position: u32) -> vec2<f32> {
    if (e >= TURNING || e % KEY >= ROPE) { return v; }
    let a = angle((e % KEY) / 2u, position);
    return vec2<f32>(v.x * a.x - v.y * a.y, v.y * a.x + v.x * a.y);
}
