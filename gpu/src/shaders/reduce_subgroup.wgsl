// Sums and maxima over lanes, through subgroups of LANES lanes. A workgroup has WG lanes, a team LANES. Only for
// uniform control flow.
var<workgroup> reduce_teams: array<f32, WG / LANES>;

// Sum over the lane's team, for every lane of it.
fn team_sum(lane: u32, value: f32) -> f32 {
    return subgroupAdd(value);
}

// Sum over the workgroup, for every lane.
fn workgroup_sum(lane: u32, value: f32) -> f32 {
    let sum = subgroupAdd(value);
    workgroupBarrier();
    if (lane % LANES == 0u) { reduce_teams[lane / LANES] = sum; }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WG / LANES; i++) { total += reduce_teams[i]; }
    return total;
}

// Maximum over the workgroup, for every lane.
fn workgroup_max(lane: u32, value: f32) -> f32 {
    let found = subgroupMax(value);
    workgroupBarrier();
    if (lane % LANES == 0u) { reduce_teams[lane / LANES] = found; }
    workgroupBarrier();
    var most = reduce_teams[0];
    for (var i = 1u; i < WG / LANES; i++) { most = max(most, reduce_teams[i]); }
    return most;
}

// Maximum over eight neighbouring lanes, for each of them.
fn max8(lane: u32, value: f32) -> f32 {
    var found = max(value, subgroupShuffleXor(value, 1u));
    found = max(found, subgroupShuffleXor(found, 2u));
    return max(found, subgroupShuffleXor(found, 4u));
}

// Sum over eight neighbouring lanes, for each of them.
fn sum8(lane: u32, value: f32) -> f32 {
    var found = value + subgroupShuffleXor(value, 1u);
    found += subgroupShuffleXor(found, 2u);
    return found + subgroupShuffleXor(found, 4u);
}

// Maximum over a lane and its neighbour in an aligned pair, for both.
fn pair_max(lane: u32, value: f32) -> f32 { return max(value, subgroupShuffleXor(value, 1u)); }

// Sum over a lane and its neighbour in an aligned pair, for both.
fn pair_sum(lane: u32, value: f32) -> f32 { return value + subgroupShuffleXor(value, 1u); }
