// Attention for many rows, as in prefill. A workgroup processes a tile of up to TILE adjacent rows of one session, at
// adjacent positions, and HG query heads of one KV head. A team of TEAM lanes processes four of the rows for one head
// and keeps their running softmax (arXiv 2205.14135). A lane holds one or two vectors of eight dimensions, TEAM vectors
// apart. Keys and values pass through workgroup memory, STAGE positions (part of a page) at once; the next ones are
// loaded meanwhile.
//
// The values of a lane are separate variables instead of an array indexed in a loop, so that they stay in registers
// whether or not the driver unrolls loops.
const KEY_STEPS: u32 = (KEY8 + TEAM - 1u) / TEAM;
const VALUE_STEPS: u32 = (VALUE8 + TEAM - 1u) / TEAM;
const STAGE_KEYS: u32 = STAGE * KEY8;
const STAGE_ALL: u32 = STAGE * (KEY8 + VALUE8);
const LOADS: u32 = (STAGE_ALL + WG - 1u) / WG;
// Teams per head.
const FOURS: u32 = TILE / 4u;
// Vectors of the output per row, and rows of the teams that are stored at once.
const OUT4: u32 = HG * (VALUE / 4u);
const LEAVING: u32 = min(FOURS, STAGE_ALL * EIGHT_VECTORS / OUT4);
const SUMS: u32 = 4u;
// Sums are rescaled when a score exceeds their maximum by more than this. Until then terms stay far below overflow.
const SLACK: f32 = 8.0;

var<workgroup> staged: array<vec4<u32>, STAGE_ALL * EIGHT_VECTORS>;

// Eight dimensions of four rows: one dimension per vector for queries, one row per vector for sums.
struct Queries {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
}
struct Rows {
    x: mat2x4<f32>,
    y: mat2x4<f32>,
    z: mat2x4<f32>,
    w: mat2x4<f32>,
}

// What a lane copies to workgroup memory, up to eight times.
struct Loads {
    a: Eight,
    b: Eight,
    c: Eight,
    d: Eight,
    e: Eight,
    f: Eight,
    g: Eight,
    h: Eight,
}

// Source of a stage: its first position, its index in the cache, and the range of visible positions.
struct Source {
    start: u32,
    at: u32,
    first: u32,
    last: u32,
}

// Loads vector i of a stage, zeros for positions outside first..=last. Memory that was never written may contain NaN,
// which a weight of zero would not remove.
fn fetch_one(source: Source, i: u32) -> Eight {
    if (i < STAGE_KEYS) {
        let p = source.start + i / KEY8;
        if (p >= source.first && p <= source.last) { return load_key(source.at * KEY8 + i); }
    } else if (i < STAGE_ALL) {
        let p = source.start + (i - STAGE_KEYS) / VALUE8;
        if (p >= source.first && p <= source.last) { return load_value(source.at * VALUE8 + i - STAGE_KEYS); }
    }
    return Eight();
}

fn fetch(lane: u32, table: u32, recent: u32, kv: u32, start: u32, first: u32, last: u32) -> Loads {
    let at = (page_slot(table, start / PAGE, recent) * KV_HEADS + kv) * PAGE + start % PAGE;
    let source = Source(start, at, first, last);
    var loads: Loads;
    loads.a = fetch_one(source, lane);
    if (LOADS > 1u) { loads.b = fetch_one(source, WG + lane); }
    if (LOADS > 2u) { loads.c = fetch_one(source, 2u * WG + lane); }
    if (LOADS > 3u) { loads.d = fetch_one(source, 3u * WG + lane); }
    if (LOADS > 4u) { loads.e = fetch_one(source, 4u * WG + lane); }
    if (LOADS > 5u) { loads.f = fetch_one(source, 5u * WG + lane); }
    if (LOADS > 6u) { loads.g = fetch_one(source, 6u * WG + lane); }
    if (LOADS > 7u) { loads.h = fetch_one(source, 7u * WG + lane); }
    return loads;
}

fn lay_one(i: u32, e: Eight) {
    if (i < STAGE_ALL) {
        staged[i * EIGHT_VECTORS] = to_vector(e, 0u);
        if (EIGHT_VECTORS > 1u) { staged[i * EIGHT_VECTORS + 1u] = to_vector(e, 1u); }
    }
}

// Eight dimensions of a key or value in workgroup memory.
fn taken(i: u32) -> mat2x4<f32> {
    let first = staged[i * EIGHT_VECTORS];
    if (EIGHT_VECTORS == 1u) { return floats(from_vectors(first, first)); }
    return floats(from_vectors(first, staged[i * EIGHT_VECTORS + 1u]));
}

fn lay(lane: u32, loads: Loads) {
    lay_one(lane, loads.a);
    if (LOADS > 1u) { lay_one(WG + lane, loads.b); }
    if (LOADS > 2u) { lay_one(2u * WG + lane, loads.c); }
    if (LOADS > 3u) { lay_one(3u * WG + lane, loads.d); }
    if (LOADS > 4u) { lay_one(4u * WG + lane, loads.e); }
    if (LOADS > 5u) { lay_one(5u * WG + lane, loads.f); }
    if (LOADS > 6u) { lay_one(6u * WG + lane, loads.g); }
    if (LOADS > 7u) { lay_one(7u * WG + lane, loads.h); }
}

// Vector w, eight dimensions, of the queries of four rows.
fn queries_of(row: u32, four: vec4<u32>, head: u32, w: u32) -> Queries {
    var q = Queries(mat4x4<f32>(), mat4x4<f32>());
    if (w < KEY8) {
        let e = 2u * w;
        q.a = transpose(mat4x4<f32>(
            query(row + four.x, head, e),
            query(row + four.y, head, e),
            query(row + four.z, head, e),
            query(row + four.w, head, e),
        ));
        q.b = transpose(mat4x4<f32>(
            query(row + four.x, head, e + 1u),
            query(row + four.y, head, e + 1u),
            query(row + four.z, head, e + 1u),
            query(row + four.w, head, e + 1u),
        ));
    }
    return q;
}

// Adds a weighted vector of eight dimensions to the sums of four rows.
fn add(sums: ptr<function, Rows>, weight: vec4<f32>, v: mat2x4<f32>) {
    (*sums).x[0] += v[0] * weight.x;
    (*sums).x[1] += v[1] * weight.x;
    (*sums).y[0] += v[0] * weight.y;
    (*sums).y[1] += v[1] * weight.y;
    (*sums).z[0] += v[0] * weight.z;
    (*sums).z[1] += v[1] * weight.z;
    (*sums).w[0] += v[0] * weight.w;
    (*sums).w[1] += v[1] * weight.w;
}

fn rescale(sums: ptr<function, Rows>, by: vec4<f32>) {
    (*sums).x *= by.x;
    (*sums).y *= by.y;
    (*sums).z *= by.z;
    (*sums).w *= by.w;
}

fn row_of(sums: ptr<function, Rows>, r: u32) -> mat2x4<f32> {
    switch (r) {
        case 0u: { return (*sums).x; }
        case 1u: { return (*sums).y; }
        case 2u: { return (*sums).z; }
        default: { return (*sums).w; }
    }
}

// Products of four keys, KEY8 apart in workgroup memory, with the queries of four rows. One column per key.
fn products(q: Queries, at: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        dot8(taken(at), q.a, q.b),
        dot8(taken(at + KEY8), q.a, q.b),
        dot8(taken(at + 2u * KEY8), q.a, q.b),
        dot8(taken(at + 3u * KEY8), q.a, q.b),
    );
}

// Scores of the key at position p. `positions` are the last positions that the rows attend to.
fn masked(s: vec4<f32>, p: u32, positions: vec4<u32>) -> vec4<f32> {
    var seen = vec4<u32>(p) <= positions;
    if (WINDOW > 0u) { seen = seen & (vec4<u32>(p + WINDOW) > positions); }
    return select(vec4<f32>(NEVER), s, seen);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv = group.x / PARTS;
    let head = kv * GROUP + (group.x % PARTS) * HG;
    let heads = min(HG, (kv + 1u) * GROUP - head);
    // Late tiles attend to the most keys, so they start first.
    let tile = row_tile(groups.y - 1u - group.y);
    let row = tile.x;
    let rows = tile.y;
    let table = row_table(row);
    let position = row_seen(row);
    // The same for all rows of the tile.
    let recent = first_recent(position);
    let first = first_visible(position);
    let last = row_seen(row + rows - 1u);
    let team = lane / TEAM;
    let t = lane % TEAM;
    let h = team / FOURS;
    let four = team % FOURS;

    let stages = last / STAGE + 1u;
    var next = fetch(lane, table, recent, kv, (first / STAGE) * STAGE, first, last);

    // The team's rows. Rows beyond the tile repeat its last row and are not stored.
    let mine = min(vec4<u32>(4u * four, 4u * four + 1u, 4u * four + 2u, 4u * four + 3u), vec4<u32>(rows - 1u));
    let positions = vec4<u32>(
        row_seen(row + mine.x),
        row_seen(row + mine.y),
        row_seen(row + mine.z),
        row_seen(row + mine.w),
    );
    let q0 = queries_of(row, mine, head + min(h, heads - 1u), t);
    var q1 = q0;
    if (KEY_STEPS > 1u) { q1 = queries_of(row, mine, head + min(h, heads - 1u), TEAM + t); }
    var sums0: Rows;
    var sums1: Rows;
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>(0.0);

    for (var stage = first / STAGE; stage < stages; stage++) {
        let start = stage * STAGE;
        workgroupBarrier();
        lay(lane, next);
        workgroupBarrier();
        if (stage + 1u < stages) { next = fetch(lane, table, recent, kv, start + STAGE, first, last); }
        // True if some row of the tile does not attend to some of these keys.
        let edge = start + STAGE - 1u > position || start < first_visible(last);
        let count = min(STAGE, last + 1u - start);
        for (var k = 0u; k < count; k += 4u) {
            var s = products(q0, k * KEY8 + min(t, KEY8 - 1u));
            if (KEY_STEPS > 1u) { s += products(q1, k * KEY8 + min(TEAM + t, KEY8 - 1u)); }
            s = team_sums(lane, s);
            s = mat4x4<f32>(capped(s[0]), capped(s[1]), capped(s[2]), capped(s[3]));
            if (edge) {
                s[0] = masked(s[0], start + k, positions);
                s[1] = masked(s[1], start + k + 1u, positions);
                s[2] = masked(s[2], start + k + 2u, positions);
                s[3] = masked(s[3], start + k + 3u, positions);
            }
            let most = max(max(s[0], s[1]), max(s[2], s[3]));
            if (any(most > top + SLACK)) {
                let kept = exp2(top - max(top, most));
                top = max(top, most);
                total *= kept;
                rescale(&sums0, kept);
                if (VALUE_STEPS > 1u) { rescale(&sums1, kept); }
            }
            let w0 = exp2(s[0] - top);
            let w1 = exp2(s[1] - top);
            let w2 = exp2(s[2] - top);
            let w3 = exp2(s[3] - top);
            total += (w0 + w1) + (w2 + w3);
            let v0 = STAGE_KEYS + k * VALUE8 + min(t, VALUE8 - 1u);
            add(&sums0, w0, taken(v0));
            add(&sums0, w1, taken(v0 + VALUE8));
            add(&sums0, w2, taken(v0 + 2u * VALUE8));
            add(&sums0, w3, taken(v0 + 3u * VALUE8));
            if (VALUE_STEPS > 1u) {
                let v1 = STAGE_KEYS + k * VALUE8 + min(TEAM + t, VALUE8 - 1u);
                add(&sums1, w0, taken(v1));
                add(&sums1, w1, taken(v1 + VALUE8));
                add(&sums1, w2, taken(v1 + 2u * VALUE8));
                add(&sums1, w3, taken(v1 + 3u * VALUE8));
            }
        }
    }

    // Rows are stored through workgroup memory, so that adjacent lanes store adjacent elements. One row of every team
    // at once.
    rescale(&sums0, 1.0 / total);
    rescale(&sums1, 1.0 / total);
    for (var r = 0u; r < 4u; r++) {
        let out0 = row_of(&sums0, r);
        let out1 = row_of(&sums1, r);
        for (var leaving = 0u; leaving < FOURS; leaving += LEAVING) {
            workgroupBarrier();
            if (four >= leaving && four < leaving + LEAVING) {
                let at = (four - leaving) * OUT4 + h * (VALUE / 4u) + 2u * t;
                if (t < VALUE8) {
                    staged[at] = bitcast<vec4<u32>>(out0[0]);
                    staged[at + 1u] = bitcast<vec4<u32>>(out0[1]);
                }
                if (VALUE_STEPS > 1u && TEAM + t < VALUE8) {
                    staged[at + 2u * TEAM] = bitcast<vec4<u32>>(out1[0]);
                    staged[at + 2u * TEAM + 1u] = bitcast<vec4<u32>>(out1[1]);
                }
            }
            workgroupBarrier();
            for (var base = 0u; base < LEAVING * OUT4; base += WG) {
                let i = min(base + lane, LEAVING * OUT4 - 1u);
                let n = 4u * (leaving + i / OUT4) + r;
                let valid = base + lane < LEAVING * OUT4 && n < rows && i % OUT4 < heads * (VALUE / 4u);
                store_act(lane, row + n, head * (VALUE / 4u) + i % OUT4, bitcast<vec4<f32>>(staged[i]), valid);
            }
        }
    }
}
