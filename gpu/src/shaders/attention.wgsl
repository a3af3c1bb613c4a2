// Inputs of the attention kernels. `queries` are [rows, HEADS * KEY]. Keys and values are [slot][KV head][offset in the
// page][dimension]; a part `kv_*` loads eight adjacent dimensions at a time. Query head h reads KV head h / GROUP. A workgroup processes up to HG heads of a group,
// PARTS workgroups process the group. Scores are in base 2: exp2 of their differences are the terms of the softmax.
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> tables: array<u32>;

const GROUP: u32 = HEADS / KV_HEADS;
const PARTS: u32 = (GROUP + HG - 1u) / HG;
// Groups of eight dimensions of a key and of a value.
const KEY8: u32 = KEY / 8u;
const VALUE8: u32 = VALUE / 8u;
const LOG2_E: f32 = 1.4426950408889634;
// Score of a masked key, and the maximum before any score. exp2 of their difference to a real score is zero.
const NEVER: f32 = -3e38;
const LOWEST: f32 = -1e30;

// First position that a row attends to if `position` is its last one.
fn first_visible(position: u32) -> u32 {
    if (WINDOW > 0u && position >= WINDOW) { return position + 1u - WINDOW; }
    return 0u;
}

// The first page that the newest RECENT tokens of the row at `position` are in, where these are in pages of their own.
fn first_recent(position: u32) -> u32 {
    return (max(position + 1u, RECENT) - RECENT) / PAGE;
}

// Slot of a page of a row's context, whose block table starts at `table`. Slots of the newest tokens' pages, from page
// `recent` on, are behind those of the others.
fn page_slot(table: u32, page: u32, recent: u32) -> u32 {
    if (RECENT > 0u && page >= recent) { return SEALED_SLOTS + tables[RECENT_TABLES + table + page]; }
    return tables[TABLES + table + page];
}

// Vector w, four elements, of a query, scaled.
fn query(row: u32, head: u32, w: u32) -> vec4<f32> {
    let q = queries[(row * HEADS + head) * (KEY / 4u) + w] * SCALE;
    if (CAP > 0.0) { return q; }
    return q * LOG2_E;
}

// Scaled products in base 2, with the soft cap.
fn capped(s: vec4<f32>) -> vec4<f32> {
    if (CAP > 0.0) {
        // CAP * tanh(s / CAP). Beyond 10 the tangent is 1 in 32 bits, and exp would overflow.
        let e = exp2(clamp(s / CAP, vec4<f32>(-10.0), vec4<f32>(10.0)) * (2.0 * LOG2_E));
        return (CAP * LOG2_E) * ((e - 1.0) / (e + 1.0));
    }
    return s;
}

// Dot products of four vectors of eight with one vector. A column of `ma` and `mb` contains one element of each of the
// four.
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
