// Sums over TEAM adjacent lanes (a power of two), through workgroup memory. Only for uniform control flow.
var<workgroup> team_lanes: array<vec4<f32>, 2u * WG>;

// Sums one vector. Calls alternate between two halves of the memory: a lane that writes a half has passed the barrier
// after its last reads.
fn column_sum(lane: u32, half: u32, v: vec4<f32>) -> vec4<f32> {
    team_lanes[half * WG + lane] = v;
    workgroupBarrier();
    let first = half * WG + (lane & ~(TEAM - 1u));
    var sum = team_lanes[first];
    for (var i = 1u; i < TEAM; i++) { sum += team_lanes[first + i]; }
    return sum;
}

// Sums the first SUMS columns over the lane's team, for each of its lanes.
fn team_sums(lane: u32, v: mat4x4<f32>) -> mat4x4<f32> {
    var sums = v;
    workgroupBarrier();
    sums[0] = column_sum(lane, 0u, v[0]);
    if (SUMS > 1u) { sums[1] = column_sum(lane, 1u, v[1]); }
    if (SUMS > 2u) { sums[2] = column_sum(lane, 0u, v[2]); }
    if (SUMS > 3u) { sums[3] = column_sum(lane, 1u, v[3]); }
    return sums;
}
