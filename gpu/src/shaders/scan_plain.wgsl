// Counts, maxima and running sums over the WG lanes of a workgroup, through workgroup memory: first within teams of 16
// lanes, then over the teams. Only for uniform control flow. The memory that a call reads last is written by the next
// call only after its first barrier.
const SCAN_TEAMS: u32 = WG / 16u;
var<workgroup> scan_words: array<u32, WG>;
var<workgroup> scan_teams: array<u32, SCAN_TEAMS>;
var<workgroup> scan_floats: array<f32, WG>;
var<workgroup> scan_sums: array<f32, SCAN_TEAMS>;
var<workgroup> scan_eights: array<u32, WG>;

// Sum over the workgroup, for every lane. Only the other `scan_*` part uses `turn`.
fn workgroup_count(lane: u32, turn: u32, value: u32) -> u32 {
    return scan_counts(lane, value).y;
}

// Maximum over the workgroup, for every lane.
fn workgroup_most(lane: u32, value: u32) -> u32 {
    scan_words[lane] = value;
    workgroupBarrier();
    if (lane < SCAN_TEAMS) {
        var found = 0u;
        for (var i = 0u; i < 16u; i++) { found = max(found, scan_words[16u * lane + i]); }
        scan_teams[lane] = found;
    }
    workgroupBarrier();
    var most = 0u;
    for (var i = 0u; i < SCAN_TEAMS; i++) { most = max(most, scan_teams[i]); }
    return most;
}

// Maximum over eight adjacent lanes, for each of them.
fn most8(lane: u32, value: u32) -> u32 {
    workgroupBarrier();
    scan_eights[lane] = value;
    workgroupBarrier();
    var found = value;
    for (var i = 0u; i < 8u; i++) { found = max(found, scan_eights[(lane & ~7u) + i]); }
    return found;
}

// Sum over the lanes before this one, and sum over all lanes.
fn scan_counts(lane: u32, value: u32) -> vec2<u32> {
    scan_words[lane] = value;
    workgroupBarrier();
    var before = 0u;
    for (var i = lane & ~15u; i < lane; i++) { before += scan_words[i]; }
    if (lane < SCAN_TEAMS) {
        var sum = 0u;
        for (var i = 0u; i < 16u; i++) { sum += scan_words[16u * lane + i]; }
        scan_teams[lane] = sum;
    }
    workgroupBarrier();
    var total = 0u;
    for (var i = 0u; i < SCAN_TEAMS; i++) {
        if (i < lane / 16u) { before += scan_teams[i]; }
        total += scan_teams[i];
    }
    return vec2<u32>(before, total);
}

// Sum over the lanes up to this one, and sum over all lanes.
fn scan_weights(lane: u32, value: f32) -> vec2<f32> {
    scan_floats[lane] = value;
    workgroupBarrier();
    var within = value;
    for (var i = lane & ~15u; i < lane; i++) { within += scan_floats[i]; }
    if (lane < SCAN_TEAMS) {
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) { sum += scan_floats[16u * lane + i]; }
        scan_sums[lane] = sum;
    }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var i = 0u; i < SCAN_TEAMS; i++) {
        if (i < lane / 16u) { before += scan_sums[i]; }
        total += scan_sums[i];
    }
    return vec2<f32>(before + within, total);
}
