// Sums over TEAM neighbouring lanes (a power of two), through workgroup memory. Uniform control flow only.
var<workgroup> team_lanes: array<vec4<f32>, 2u * WG>;

// Sums SUMS vectors over the lane's team, for each of its lanes.
fn team_sums(lane: u32, v: ptr<function, array<vec4<f32>, SUMS>>) {
    workgroupBarrier();
    for (var n = 0u; n < SUMS; n++) {
        // Two halves in turn: a lane that writes one has seen the barrier after the last reads of it.
        let half = (n & 1u) * WG;
        team_lanes[half + lane] = (*v)[n];
        workgroupBarrier();
        let first = half + (lane & ~(TEAM - 1u));
        var sum = team_lanes[first];
        for (var i = 1u; i < TEAM; i++) { sum += team_lanes[first + i]; }
        (*v)[n] = sum;
    }
}
