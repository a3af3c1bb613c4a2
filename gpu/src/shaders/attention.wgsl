// What attention kernels read, and how a query sees its keys. `queries` are [rows, HEADS * KEY]; keys and values are halves,
// [slot][KV head][offset in the page][dimension], eight to a vector; page n of a row's context is in the slot at
// tables[row_table(row) + n]. Query head h reads KV head h / GROUP; a workgroup takes up to HG of a group's heads, PARTS
// workgroups the group. Scores are kept in base 2: exp2 of their differences are the softmax's terms.
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> tables: array<u32>;

const GROUP: u32 = HEADS / KV_HEADS;
const PARTS: u32 = (GROUP + HG - 1u) / HG;
// Vectors of halves of a key and of a value.
const KEY8: u32 = KEY / 8u;
const VALUE8: u32 = VALUE / 8u;
const LOG2_E: f32 = 1.4426950408889634;
// The score of a key that is not to be seen, and the maximum before any score: their difference has an exp2 of zero.
const NEVER: f32 = -3e38;
const LOWEST: f32 = -1e30;

// First position that a row sees whose last one is `position`.
fn first_visible(position: u32) -> u32 {
    if (WINDOW > 0u && position >= WINDOW) { return position + 1u - WINDOW; }
    return 0u;
}

// Vector w of four elements of a query, scaled.
fn query(row: u32, head: u32, w: u32) -> vec4<f32> {
    let q = queries[(row * HEADS + head) * (KEY / 4u) + w] * SCALE;
    if (CAP > 0.0) { return q; }
    return q * LOG2_E;
}

// Scaled products in base 2, capped.
fn capped(s: vec4<f32>) -> vec4<f32> {
    if (CAP > 0.0) {
        // CAP * tanh(s / CAP); beyond 10 the tangent is 1 in 32 bits, and exp would overflow.
        let e = exp2(clamp(s / CAP, vec4<f32>(-10.0), vec4<f32>(10.0)) * (2.0 * LOG2_E));
        return (CAP * LOG2_E) * ((e - 1.0) / (e + 1.0));
    }
    return s;
}

// Eight halves as floats.
fn halves(w: vec4<u32>) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
        vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
    );
}

// Products of four vectors of eight with one: a column of `ma` and `mb` holds one element of each of the four.
fn dot8(v: mat2x4<f32>, ma: mat4x4<f32>, mb: mat4x4<f32>) -> vec4<f32> {
    var s = ma[0] * v[0].x;
    s += ma[1] * v[0].y;
    s += ma[2] * v[0].z;
    s += ma[3] * v[0].w;
    s += mb[0] * v[1].x;
    s += mb[1] * v[1].y;
    s += mb[2] * v[1].z;
    s += mb[3] * v[1].w;
    return s;
}
