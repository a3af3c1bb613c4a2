// Sums and maxima over lanes, through workgroup memory. A workgroup has WG lanes, a team LANES. Only for uniform
// control flow.
var<workgroup> reduce_lanes: array<f32, WG>;

// Sum over the lane's team. Only the team's first lane gets it.
fn team_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (lane % LANES < step) { reduce_lanes[lane] += reduce_lanes[lane + step]; }
    }
    workgroupBarrier();
    return reduce_lanes[lane];
}

// Sum over the workgroup, for every lane.
fn workgroup_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (lane < step) { reduce_lanes[lane] += reduce_lanes[lane + step]; }
    }
    workgroupBarrier();
    return reduce_lanes[0];
}

// Maximum over the workgroup, for every lane.
fn workgroup_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (lane < step) { reduce_lanes[lane] = max(reduce_lanes[lane], reduce_lanes[lane + step]); }
    }
    workgroupBarrier();
    return reduce_lanes[0];
}

// Maximum over eight neighbouring lanes, for each of them.
fn max8(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    var found = value;
    for (var i = 0u; i < 8u; i++) { found = max(found, reduce_lanes[(lane & ~7u) + i]); }
    return found;
}

// Sum over eight neighbouring lanes, for each of them.
fn sum8(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    var found = 0.0;
    for (var i = 0u; i < 8u; i++) { found += reduce_lanes[(lane & ~7u) + i]; }
    return found;
}

// Maximum over a lane and its neighbour in an aligned pair, for both.
fn pair_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    return max(value, reduce_lanes[lane ^ 1u]);
}

// Sum over a lane and its neighbour in an aligned pair, for both.
fn pair_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_lanes[lane] = value;
    workgroupBarrier();
    return value + reduce_lanes[lane ^ 1u];
}
