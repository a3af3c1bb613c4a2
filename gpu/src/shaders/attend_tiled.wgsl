// Attention of many rows, as in prefill: a workgroup takes a tile of up to TILE neighbouring rows of one session, at
// neighbouring positions, and HG query heads of one KV head. A team of TEAM lanes takes four of the rows for one head and
// keeps their softmax (arXiv 2205.14135) in registers, a lane some of the dimensions: vectors of eight, TEAM apart. Keys and
// values pass through workgroup memory, STAGE positions at once, a part of a page; the next ones are on their way meanwhile.
const KEY_STEPS: u32 = (KEY8 + TEAM - 1u) / TEAM;
const VALUE_STEPS: u32 = (VALUE8 + TEAM - 1u) / TEAM;
const STAGE_KEYS: u32 = STAGE * KEY8;
const STAGE_ALL: u32 = STAGE * (KEY8 + VALUE8);
const LOADS: u32 = (STAGE_ALL + WG - 1u) / WG;
// Teams of a head.
const FOURS: u32 = TILE / 4u;
// Vectors that a row takes of the output, and rows that leave at once of each four.
const OUT4: u32 = HG * (VALUE / 4u);
const LEAVING: u32 = min(FOURS, STAGE_ALL / OUT4);
const SUMS: u32 = 4u;
// Sums are rescaled when a score exceeds their maximum by this: terms stay far below overflow until then.
const SLACK: f32 = 8.0;

var<workgroup> staged: array<vec4<u32>, STAGE_ALL>;

// What the lane moves of the stage that begins at position `start`. Positions outside first..=last become zeros: a weight
// of zero would not make nothing of what was never written.
fn fetch(lane: u32, table: u32, kv: u32, start: u32, first: u32, last: u32) -> array<vec4<u32>, LOADS> {
    let at = (tables[table + start / PAGE] * KV_HEADS + kv) * PAGE + start % PAGE;
    var loads: array<vec4<u32>, LOADS>;
    for (var n = 0u; n < LOADS; n++) {
        let i = n * WG + lane;
        if (i < STAGE_KEYS) {
            let p = start + i / KEY8;
            if (p >= first && p <= last) { loads[n] = keys[at * KEY8 + i]; }
        } else if (i < STAGE_ALL) {
            let p = start + (i - STAGE_KEYS) / VALUE8;
            if (p >= first && p <= last) { loads[n] = values[at * VALUE8 + i - STAGE_KEYS]; }
        }
    }
    return loads;
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
    // Late tiles see the most keys: they begin first.
    let tile = row_tile(groups.y - 1u - group.y);
    let row = tile.x;
    let rows = tile.y;
    let table = row_table(row);
    let position = row_position(row);
    let first = first_visible(position);
    let last = position + rows - 1u;
    let team = lane / TEAM;
    let t = lane % TEAM;
    let h = team / FOURS;
    let four = team % FOURS;

    // The team's rows; those beyond the tile's are its last once more, and are not stored.
    let mine = min(vec4<u32>(4u * four, 4u * four + 1u, 4u * four + 2u, 4u * four + 3u), vec4<u32>(rows - 1u));
    let positions = mine + position;
    var q: array<vec4<f32>, 8u * KEY_STEPS>;
    for (var c = 0u; c < KEY_STEPS; c++) {
        let e = 2u * (c * TEAM + t);
        if (e < 2u * KEY8) {
            for (var r = 0u; r < 4u; r++) {
                q[8u * c + 2u * r] = query(row + mine[r], head + min(h, heads - 1u), e);
                q[8u * c + 2u * r + 1u] = query(row + mine[r], head + min(h, heads - 1u), e + 1u);
            }
        }
    }
    var sums: array<vec4<f32>, 8u * VALUE_STEPS>;
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>(0.0);

    let stages = last / STAGE + 1u;
    var next = fetch(lane, table, kv, (first / STAGE) * STAGE, first, last);
    for (var stage = first / STAGE; stage < stages; stage++) {
        let start = stage * STAGE;
        workgroupBarrier();
        for (var n = 0u; n < LOADS; n++) {
            if (n * WG + lane < STAGE_ALL) { staged[n * WG + lane] = next[n]; }
        }
        workgroupBarrier();
        next = fetch(lane, table, kv, min(stage + 1u, stages - 1u) * STAGE, first, last);
        // Whether some row of the tile does not see some of these keys.
        let masked = start + STAGE - 1u > position || start < first_visible(last);
        let count = min(STAGE, last + 1u - start);
        for (var k = 0u; k < count; k += 4u) {
            // By key, the four rows.
            var s: array<vec4<f32>, SUMS>;
            for (var c = 0u; c < KEY_STEPS; c++) {
                let at = k * KEY8 + min(c * TEAM + t, KEY8 - 1u);
                for (var j = 0u; j < 4u; j++) {
                    let w = halves(staged[at + j * KEY8]);
                    s[j] += vec4<f32>(
                        dot(q[8u * c], w[0]) + dot(q[8u * c + 1u], w[1]),
                        dot(q[8u * c + 2u], w[0]) + dot(q[8u * c + 3u], w[1]),
                        dot(q[8u * c + 4u], w[0]) + dot(q[8u * c + 5u], w[1]),
                        dot(q[8u * c + 6u], w[0]) + dot(q[8u * c + 7u], w[1]),
                    );
                }
            }
            team_sums(lane, &s);
            for (var j = 0u; j < 4u; j++) {
                s[j] = capped(s[j]);
                if (masked) {
                    let p = vec4<u32>(start + k + j);
                    var seen = p <= positions;
                    if (WINDOW > 0u) { seen = seen & (p + WINDOW > positions); }
                    s[j] = select(vec4<f32>(NEVER), s[j], seen);
                }
            }
            let most = max(max(s[0], s[1]), max(s[2], s[3]));
            if (any(most > top + SLACK)) {
                let higher = max(top, most);
                let kept = exp2(top - higher);
                top = higher;
                total *= kept;
                for (var c = 0u; c < VALUE_STEPS; c++) {
                    sums[8u * c] *= kept.x;
                    sums[8u * c + 1u] *= kept.x;
                    sums[8u * c + 2u] *= kept.y;
                    sums[8u * c + 3u] *= kept.y;
                    sums[8u * c + 4u] *= kept.z;
                    sums[8u * c + 5u] *= kept.z;
                    sums[8u * c + 6u] *= kept.w;
                    sums[8u * c + 7u] *= kept.w;
                }
            }
            for (var j = 0u; j < 4u; j++) {
                s[j] = exp2(s[j] - top);
                total += s[j];
            }
            for (var c = 0u; c < VALUE_STEPS; c++) {
                let at = STAGE_KEYS + k * VALUE8 + min(c * TEAM + t, VALUE8 - 1u);
                for (var j = 0u; j < 4u; j++) {
                    let w = halves(staged[at + j * VALUE8]);
                    let weight = s[j];
                    sums[8u * c] += weight.x * w[0];
                    sums[8u * c + 1u] += weight.x * w[1];
                    sums[8u * c + 2u] += weight.y * w[0];
                    sums[8u * c + 3u] += weight.y * w[1];
                    sums[8u * c + 4u] += weight.z * w[0];
                    sums[8u * c + 5u] += weight.z * w[1];
                    sums[8u * c + 6u] += weight.w * w[0];
                    sums[8u * c + 7u] += weight.w * w[1];
                }
            }
        }
    }

    // Rows leave through workgroup memory, so that neighbouring lanes hold neighbouring elements: one of each four at once.
    for (var r = 0u; r < 4u; r++) {
        for (var leaving = 0u; leaving < FOURS; leaving += LEAVING) {
            workgroupBarrier();
            if (four >= leaving && four < leaving + LEAVING) {
                for (var c = 0u; c < VALUE_STEPS; c++) {
                    let e = c * TEAM + t;
                    if (e < VALUE8) {
                        let at = (four - leaving) * OUT4 + h * (VALUE / 4u) + 2u * e;
                        // Indices of `sums` that do not depend on the row: it stays in registers.
                        for (var n = 0u; n < 4u; n++) {
                            if (n == r) {
                                staged[at] = bitcast<vec4<u32>>(sums[8u * c + 2u * n] / total[n]);
                                staged[at + 1u] = bitcast<vec4<u32>>(sums[8u * c + 2u * n + 1u] / total[n]);
                            }
                        }
                    }
                }
            }
            workgroupBarrier();
            for (var base = 0u; base < LEAVING * OUT4; base += WG) {
                let i = base + lane;
                let at = min(i, LEAVING * OUT4 - 1u);
                let n = 4u * (leaving + at / OUT4) + r;
                let e = at % OUT4;
                let valid = i < LEAVING * OUT4 && n < rows && e < heads * (VALUE / 4u);
                store_act(lane, row + n, head * (VALUE / 4u) + e, bitcast<vec4<f32>>(staged[at]), valid);
            }
        }
    }
}
