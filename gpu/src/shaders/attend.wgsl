// Attention of few rows, as in decoding: a workgroup takes one row, up to HG query heads of one KV head, and one split, a
// range of whole pages of the row's context. A team of TEAM lanes takes every TEAMS-th key and value of it, a lane eight
// dimensions, and keeps a softmax of its own (arXiv 2205.14135), so that nothing is shared until the teams' sums are merged
// at the end. The part `attend_*` says how many splits there are and what becomes of the sums.
const TEAMS: u32 = WG / TEAM;
// Keys at once, of a team and of all.
const AHEAD: u32 = 4u;
const BATCH: u32 = AHEAD * TEAMS;
// Vectors of HG heads' maxima or totals, by team.
const STATS: u32 = TEAMS / 4u;
// Heads that are merged at once.
const PASSES: u32 = (HG + MERGED - 1u) / MERGED;
const MERGED4: u32 = MERGED * (VALUE / 4u);
const SUMS: u32 = HG;

var<workgroup> tops: array<vec4<f32>, HG * STATS>;
var<workgroup> totals: array<vec4<f32>, HG * STATS>;
var<workgroup> merged: array<vec4<f32>, MERGED4 * TEAMS>;

// The largest of a head's scores. After a barrier.
fn top_of(h: u32) -> f32 {
    var most = tops[h * STATS];
    for (var i = 1u; i < STATS; i++) { most = max(most, tops[h * STATS + i]); }
    return max(max(most.x, most.y), max(most.z, most.w));
}

struct Batch {
    keys: array<vec4<u32>, AHEAD>,
    values: array<vec4<u32>, AHEAD>,
}

// A lane's share of the team's keys from `position` on. Those outside first..=last are read as the nearest inside, which is
// finite, so that a weight of zero makes it nothing.
fn load(table: u32, kv: u32, t: u32, position: u32, first: u32, last: u32) -> Batch {
    var batch: Batch;
    for (var j = 0u; j < AHEAD; j++) {
        let p = clamp(position + j * TEAMS, first, last);
        let at = (tables[table + p / PAGE] * KV_HEADS + kv) * PAGE + p % PAGE;
        batch.keys[j] = keys[at * KEY8 + min(t, KEY8 - 1u)];
        batch.values[j] = values[at * VALUE8 + min(t, VALUE8 - 1u)];
    }
    return batch;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv = group.x / PARTS;
    let head = kv * GROUP + (group.x % PARTS) * HG;
    let heads = min(HG, (kv + 1u) * GROUP - head);
    let row = group.y;
    let team = lane / TEAM;
    let t = lane % TEAM;

    // The split's pages, and its keys first..=last, none where it has no page.
    let position = row_position(row);
    let table = row_table(row);
    let from_page = first_visible(position) / PAGE;
    let pages = position / PAGE + 1u - from_page;
    let each = (pages + splits() - 1u) / splits();
    let start = (from_page + group.z * each) * PAGE;
    let first = max(start, first_visible(position));
    let last = min(start + each * PAGE - 1u, position);
    var batches = 0u;
    if (start <= last) { batches = (last - start) / BATCH + 1u; }

    var q: array<vec4<f32>, 2u * HG>;
    for (var h = 0u; h < HG; h++) {
        if (t < KEY8) {
            q[2u * h] = query(row, head + min(h, heads - 1u), 2u * t);
            q[2u * h + 1u] = query(row, head + min(h, heads - 1u), 2u * t + 1u);
        }
    }
    var sums: array<vec4<f32>, 2u * HG>;
    var top: array<f32, HG>;
    var total: array<f32, HG>;
    for (var h = 0u; h < HG; h++) { top[h] = LOWEST; }

    var next: Batch;
    if (batches > 0u) { next = load(table, kv, t, start + team, first, last); }
    for (var b = 0u; b < batches; b++) {
        let mine = start + b * BATCH + team;
        let now = next;
        // The next batch is on its way while this one is summed; after the last it is the last key once more.
        next = load(table, kv, t, mine + BATCH, first, last);
        let p = vec4<u32>(mine, mine + TEAMS, mine + 2u * TEAMS, mine + 3u * TEAMS);
        let seen = (p >= vec4<u32>(first)) & (p <= vec4<u32>(last));

        var s: array<vec4<f32>, SUMS>;
        let k0 = halves(now.keys[0]);
        let k1 = halves(now.keys[1]);
        let k2 = halves(now.keys[2]);
        let k3 = halves(now.keys[3]);
        for (var h = 0u; h < HG; h++) {
            let a = q[2u * h];
            let b = q[2u * h + 1u];
            s[h] = vec4<f32>(
                dot(a, k0[0]) + dot(b, k0[1]),
                dot(a, k1[0]) + dot(b, k1[1]),
                dot(a, k2[0]) + dot(b, k2[1]),
                dot(a, k3[0]) + dot(b, k3[1]),
            );
        }
        team_sums(lane, &s);
        let v0 = halves(now.values[0]);
        let v1 = halves(now.values[1]);
        let v2 = halves(now.values[2]);
        let v3 = halves(now.values[3]);
        for (var h = 0u; h < HG; h++) {
            let score = select(vec4<f32>(NEVER), capped(s[h]), seen);
            let most = max(top[h], max(max(score.x, score.y), max(score.z, score.w)));
            let kept = exp2(top[h] - most);
            let w = exp2(score - most);
            top[h] = most;
            total[h] = total[h] * kept + ((w.x + w.y) + (w.z + w.w));
            sums[2u * h] = sums[2u * h] * kept + (w.x * v0[0] + w.y * v1[0] + w.z * v2[0] + w.w * v3[0]);
            sums[2u * h + 1u] = sums[2u * h + 1u] * kept + (w.x * v0[1] + w.y * v1[1] + w.z * v2[1] + w.w * v3[1]);
        }
    }

    // Teams meet: first at a common maximum, then head by head.
    if (t == 0u) {
        for (var h = 0u; h < HG; h++) { tops[h * STATS + team / 4u][team % 4u] = top[h]; }
    }
    workgroupBarrier();
    for (var h = 0u; h < HG; h++) {
        let kept = exp2(top[h] - top_of(h));
        total[h] *= kept;
        sums[2u * h] *= kept;
        sums[2u * h + 1u] *= kept;
    }
    if (t == 0u) {
        for (var h = 0u; h < HG; h++) { totals[h * STATS + team / 4u][team % 4u] = total[h]; }
    }
    for (var turn = 0u; turn < PASSES; turn++) {
        if (turn > 0u) { workgroupBarrier(); }
        if (t < VALUE8) {
            // Indices of `sums` that do not depend on the turn: it stays in registers.
            for (var h = 0u; h < HG; h++) {
                let at = ((h % MERGED) * TEAMS + team) * (VALUE / 4u) + 2u * t;
                if (h / MERGED == turn) {
                    merged[at] = sums[2u * h];
                    merged[at + 1u] = sums[2u * h + 1u];
                }
            }
        }
        workgroupBarrier();
        for (var base = 0u; base < MERGED4; base += WG) {
            let i = base + lane;
            let at = min(i, MERGED4 - 1u);
            let h = min(turn * MERGED + at / (VALUE / 4u), HG - 1u);
            let valid = i < MERGED4 && turn * MERGED + at / (VALUE / 4u) < heads;
            var sum = vec4<f32>(0.0);
            for (var n = 0u; n < TEAMS; n++) {
                sum += merged[((at / (VALUE / 4u)) * TEAMS + n) * (VALUE / 4u) + at % (VALUE / 4u)];
            }
            var parts = vec4<f32>(0.0);
            for (var n = 0u; n < STATS; n++) { parts += totals[h * STATS + n]; }
            let all = (parts.x + parts.y) + (parts.z + parts.w);
            finish(lane, row, group.z, head, h, at % (VALUE / 4u), head * (VALUE / 4u) + turn * MERGED4 + i, sum, all, valid);
        }
    }
}
