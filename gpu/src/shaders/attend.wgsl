// Attention for few rows, as in decoding. A workgroup processes one row, HG query heads (up to four) of one KV head,
// and one split, a range of whole pages of the row's context. A team of TEAM lanes processes four keys and values at
// once, each lane eight dimensions of them, and keeps a running softmax of its own (arXiv 2205.14135). Teams share
// nothing until their sums are merged at the end. The part `attend_*` defines the number of splits and stores the sums.
//
// The values of a lane are separate variables instead of an array indexed in a loop, so that they stay in registers
// whether or not the driver unrolls loops.
const TEAMS: u32 = WG / TEAM;
// Teams that process one page together.
const TURN: u32 = PAGE / 4u;
// Vectors with the maxima or totals of a head's teams.
const STATS: u32 = TEAMS / 4u;
// Iterations in which the heads are merged, MERGED heads each.
const TURNS: u32 = (HG + MERGED - 1u) / MERGED;
const VALUE4: u32 = VALUE / 4u;
const MERGED4: u32 = MERGED * VALUE4;
const SUMS: u32 = HG;

var<workgroup> tops: array<vec4<f32>, HG * STATS>;
var<workgroup> totals: array<vec4<f32>, HG * STATS>;
var<workgroup> merged: array<vec4<f32>, MERGED4 * TEAMS>;

// State of a query head: the lane's eight dimensions of the query and of the sums, and the team's largest score and sum
// of terms.
struct Head {
    q: mat2x4<f32>,
    sums: mat2x4<f32>,
    top: f32,
    total: f32,
}

// A lane's part of four keys and values.
struct Batch {
    k0: Eight,
    k1: Eight,
    k2: Eight,
    k3: Eight,
    v0: Eight,
    v1: Eight,
    v2: Eight,
    v3: Eight,
}

// Loads four positions, TURN apart, of the page in `slot`, from `offset` on.
fn load(slot: u32, kv: u32, t: u32, offset: u32) -> Batch {
    let first = (slot * KV_HEADS + kv) * PAGE + offset;
    let k = first * KEY8 + min(t, KEY8 - 1u);
    let v = first * VALUE8 + min(t, VALUE8 - 1u);
    return Batch(
        load_key(k),
        load_key(k + TURN * KEY8),
        load_key(k + 2u * TURN * KEY8),
        load_key(k + 3u * TURN * KEY8),
        load_value(v),
        load_value(v + TURN * VALUE8),
        load_value(v + 2u * TURN * VALUE8),
        load_value(v + 3u * TURN * VALUE8),
    );
}

fn new_head(row: u32, head: u32, t: u32) -> Head {
    var new_one = Head(mat2x4<f32>(), mat2x4<f32>(), LOWEST, 0.0);
    if (t < KEY8) { new_one.q = mat2x4<f32>(query(row, head, 2u * t), query(row, head, 2u * t + 1u)); }
    return new_one;
}

// Adds four values to a head, with `s` the scores of their keys. Each column of `va` and `vb` is one dimension of the
// four values.
fn add(head: ptr<function, Head>, s: vec4<f32>, seen: vec4<bool>, va: mat4x4<f32>, vb: mat4x4<f32>) {
    let score = select(vec4<f32>(NEVER), capped(s), seen);
    let top = max((*head).top, max(max(score.x, score.y), max(score.z, score.w)));
    let kept = exp2((*head).top - top);
    let w = exp2(score - top);
    (*head).top = top;
    (*head).total = (*head).total * kept + ((w.x + w.y) + (w.z + w.w));
    (*head).sums[0] = (*head).sums[0] * kept + va[0] * w.x + va[1] * w.y + va[2] * w.z + va[3] * w.w;
    (*head).sums[1] = (*head).sums[1] * kept + vb[0] * w.x + vb[1] * w.y + vb[2] * w.z + vb[3] * w.w;
}

// The largest score of head h, after its teams have stored theirs.
fn top_of(h: u32) -> f32 {
    var most = tops[h * STATS];
    for (var i = 1u; i < STATS; i++) { most = max(most, tops[h * STATS + i]); }
    return max(max(most.x, most.y), max(most.z, most.w));
}

fn tell_top(head: ptr<function, Head>, h: u32, team: u32) {
    tops[h * STATS + team / 4u][team % 4u] = (*head).top;
}

// Rescales a head to the maximum of all teams.
fn level(head: ptr<function, Head>, h: u32, team: u32, t: u32) {
    let kept = exp2((*head).top - top_of(h));
    (*head).sums *= kept;
    if (t == 0u) { totals[h * STATS + team / 4u][team % 4u] = (*head).total * kept; }
}

// Stores a lane's sums for merging: [head of the iteration][team][dimension].
fn lay(head: ptr<function, Head>, h: u32, turn: u32, team: u32, t: u32) {
    if (h / MERGED == turn && t < VALUE8) {
        let at = ((h % MERGED) * TEAMS + team) * VALUE4 + 2u * t;
        merged[at] = (*head).sums[0];
        merged[at + 1u] = (*head).sums[1];
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv = group.x / PARTS;
    let head = kv * GROUP + (group.x % PARTS) * HG;
    let heads = min(HG, (kv + 1u) * GROUP - head);
    let row = group.y;
    let team = lane / TEAM;
    let t = lane % TEAM;

    // The split's pages are first_page..=last_page. There are none if the split begins beyond the row's context.
    let position = row_seen(row);
    let table = row_table(row);
    let recent = first_recent(position);
    let earliest = first_visible(position);
    let pages = position / PAGE + 1u - earliest / PAGE;
    let each = (pages + splits() - 1u) / splits();
    let first_page = earliest / PAGE + group.z * each;
    let last_page = min(first_page + each - 1u, position / PAGE);
    var batches = 0u;
    if (first_page <= last_page) { batches = ((last_page + 1u - first_page) * TURN + TEAMS - 1u) / TEAMS; }

    // Keys and values are loaded one batch ahead, the slot of their page one batch earlier still.
    var next: Batch;
    var slot = 0u;
    if (batches > 0u) {
        next = load(page_slot(table, min(first_page + team / TURN, last_page), recent), kv, t, team % TURN);
        slot = page_slot(table, min(first_page + (TEAMS + team) / TURN, last_page), recent);
    }
    var h0 = new_head(row, head, t);
    var h1 = h0;
    var h2 = h0;
    var h3 = h0;
    if (HG > 1u) { h1 = new_head(row, head + min(1u, heads - 1u), t); }
    if (HG > 2u) { h2 = new_head(row, head + min(2u, heads - 1u), t); }
    if (HG > 3u) { h3 = new_head(row, head + min(3u, heads - 1u), t); }

    for (var b = 0u; b < batches; b++) {
        var now = next;
        let place = b * TEAMS + team;
        if (b + 1u < batches) {
            next = load(slot, kv, t, (place + TEAMS) % TURN);
            slot = page_slot(table, min(first_page + (place + 2u * TEAMS) / TURN, last_page), recent);
        }
        let p = (first_page + place / TURN) * PAGE + place % TURN + vec4<u32>(0u, TURN, 2u * TURN, 3u * TURN);
        let seen = (p >= vec4<u32>(earliest)) & (p < vec4<u32>(min(position + 1u, (last_page + 1u) * PAGE)));
        if (!all(seen)) {
            // Positions that were never written may contain NaN, and a weight of zero would not remove it.
            now.v0 = or_zeros(now.v0, seen.x);
            now.v1 = or_zeros(now.v1, seen.y);
            now.v2 = or_zeros(now.v2, seen.z);
            now.v3 = or_zeros(now.v3, seen.w);
        }

        // One dimension of the four keys per column.
        let k0 = floats(now.k0);
        let k1 = floats(now.k1);
        let k2 = floats(now.k2);
        let k3 = floats(now.k3);
        let ka = transpose(mat4x4<f32>(k0[0], k1[0], k2[0], k3[0]));
        let kb = transpose(mat4x4<f32>(k0[1], k1[1], k2[1], k3[1]));
        var s = mat4x4<f32>();
        s[0] = dot8(h0.q, ka, kb);
        if (HG > 1u) { s[1] = dot8(h1.q, ka, kb); }
        if (HG > 2u) { s[2] = dot8(h2.q, ka, kb); }
        if (HG > 3u) { s[3] = dot8(h3.q, ka, kb); }
        s = team_sums(lane, s);

        let v0 = floats(now.v0);
        let v1 = floats(now.v1);
        let v2 = floats(now.v2);
        let v3 = floats(now.v3);
        let va = mat4x4<f32>(v0[0], v1[0], v2[0], v3[0]);
        let vb = mat4x4<f32>(v0[1], v1[1], v2[1], v3[1]);
        add(&h0, s[0], seen, va, vb);
        if (HG > 1u) { add(&h1, s[1], seen, va, vb); }
        if (HG > 2u) { add(&h2, s[2], seen, va, vb); }
        if (HG > 3u) { add(&h3, s[3], seen, va, vb); }
    }

    // Merge the teams: rescale to a common maximum, then add up head by head.
    if (t == 0u) {
        tell_top(&h0, 0u, team);
        if (HG > 1u) { tell_top(&h1, 1u, team); }
        if (HG > 2u) { tell_top(&h2, 2u, team); }
        if (HG > 3u) { tell_top(&h3, 3u, team); }
    }
    workgroupBarrier();
    level(&h0, 0u, team, t);
    if (HG > 1u) { level(&h1, 1u, team, t); }
    if (HG > 2u) { level(&h2, 2u, team, t); }
    if (HG > 3u) { level(&h3, 3u, team, t); }
    for (var turn = 0u; turn < TURNS; turn++) {
        if (turn > 0u) { workgroupBarrier(); }
        lay(&h0, 0u, turn, team, t);
        if (HG > 1u) { lay(&h1, 1u, turn, team, t); }
        if (HG > 2u) { lay(&h2, 2u, turn, team, t); }
        if (HG > 3u) { lay(&h3, 3u, turn, team, t); }
        workgroupBarrier();
        for (var base = 0u; base < MERGED4; base += WG) {
            let i = min(base + lane, MERGED4 - 1u);
            let h = turn * MERGED + i / VALUE4;
            let valid = base + lane < MERGED4 && h < heads;
            var sum = vec4<f32>(0.0);
            // Four at once, so that their loads overlap.
            let from_team = (i / VALUE4) * TEAMS * VALUE4 + i % VALUE4;
            for (var n = from_team; n < from_team + TEAMS * VALUE4; n += 4u * VALUE4) {
                sum += (merged[n] + merged[n + VALUE4]) + (merged[n + 2u * VALUE4] + merged[n + 3u * VALUE4]);
            }
            var terms = vec4<f32>(0.0);
            for (var n = 0u; n < STATS; n++) { terms += totals[min(h, HG - 1u) * STATS + n]; }
            let total = (terms.x + terms.y) + (terms.z + terms.w);
            finish(lane, row, group.z, head, h, i % VALUE4, sum, total, valid);
        }
    }
}
