// Counts, maxima and running sums over the WG lanes of a workgroup, through subgroups of LANES lanes. Only for uniform
// control flow.
const SCAN_TEAMS: u32 = WG / LANES;
var<workgroup> scan_turns: array<u32, 2u * SCAN_TEAMS>;
var<workgroup> scan_words: array<u32, SCAN_TEAMS>;
var<workgroup> scan_floats: array<f32, SCAN_TEAMS>;

// Sum over the workgroup, for every lane. Consecutive calls alternate `turn` between 0 and 1, which saves a barrier.
fn workgroup_count(lane: u32, turn: u32, value: u32) -> u32 {
    let sum = subgroupAdd(value);
    if (lane % LANES == 0u) { scan_turns[turn * SCAN_TEAMS + lane / LANES] = sum; }
    workgroupBarrier();
    var total = 0u;
    for (var i = 0u; i < SCAN_TEAMS; i++) { total += scan_turns[turn * SCAN_TEAMS + i]; }
    return total;
}

// Maximum over the workgroup, for every lane.
fn workgroup_most(lane: u32, value: u32) -> u32 {
    let found = subgroupMax(value);
    workgroupBarrier();
    if (lane % LANES == 0u) { scan_words[lane / LANES] = found; }
    workgroupBarrier();
    var most = 0u;
    for (var i = 0u; i < SCAN_TEAMS; i++) { most = max(most, scan_words[i]); }
    return most;
}

// Maximum over eight adjacent lanes, for each of them.
fn most8(lane: u32, value: u32) -> u32 {
    var found = max(value, subgroupShuffleXor(value, 1u));
    found = max(found, subgroupShuffleXor(found, 2u));
    return max(found, subgroupShuffleXor(found, 4u));
}

// Sum over the lanes before this one, and sum over all lanes.
fn scan_counts(lane: u32, value: u32) -> vec2<u32> {
    let through = subgroupInclusiveAdd(value);
    workgroupBarrier();
    if (lane % LANES == LANES - 1u) { scan_words[lane / LANES] = through; }
    workgroupBarrier();
    var before = through - value;
    var total = 0u;
    for (var i = 0u; i < SCAN_TEAMS; i++) {
        if (i < lane / LANES) { before += scan_words[i]; }
        total += scan_words[i];
    }
    return vec2<u32>(before, total);
}

// Sum over the lanes up to this one, and sum over all lanes.
fn scan_weights(lane: u32, value: f32) -> vec2<f32> {
    let within = subgroupInclusiveAdd(value);
    workgroupBarrier();
    if (lane % LANES == LANES - 1u) { scan_floats[lane / LANES] = within; }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var i = 0u; i < SCAN_TEAMS; i++) {
        if (i < lane / LANES) { before += scan_floats[i]; }
        total += scan_floats[i];
    }
    return vec2<f32>(before + within, total);
}
