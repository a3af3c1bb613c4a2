// Sums over TEAM neighbouring lanes (a power of two, at most a subgroup), by shuffles. Uniform control flow only.

// Sums SUMS vectors over the lane's team, for each of its lanes.
fn team_sums(lane: u32, v: ptr<function, array<vec4<f32>, SUMS>>) {
    for (var n = 0u; n < SUMS; n++) {
        var sum = (*v)[n];
        if (TEAM > 1u) { sum += subgroupShuffleXor(sum, 1u); }
        if (TEAM > 2u) { sum += subgroupShuffleXor(sum, 2u); }
        if (TEAM > 4u) { sum += subgroupShuffleXor(sum, 4u); }
        if (TEAM > 8u) { sum += subgroupShuffleXor(sum, 8u); }
        if (TEAM > 16u) { sum += subgroupShuffleXor(sum, 16u); }
        (*v)[n] = sum;
    }
}
