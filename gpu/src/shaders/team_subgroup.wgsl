// Sums over TEAM adjacent lanes (a power of two, at most a subgroup), with shuffles. Only for uniform control flow.

// Sums one vector.
fn shuffled_sum(v: vec4<f32>) -> vec4<f32> {
    var sum = v;
    if (TEAM > 1u) { sum += subgroupShuffleXor(sum, 1u); }
    if (TEAM > 2u) { sum += subgroupShuffleXor(sum, 2u); }
    if (TEAM > 4u) { sum += subgroupShuffleXor(sum, 4u); }
    if (TEAM > 8u) { sum += subgroupShuffleXor(sum, 8u); }
    if (TEAM > 16u) { sum += subgroupShuffleXor(sum, 16u); }
    return sum;
}

// Sums the first SUMS columns over the lane's team, for each of its lanes.
fn team_sums(lane: u32, v: mat4x4<f32>) -> mat4x4<f32> {
    var sums = v;
    sums[0] = shuffled_sum(v[0]);
    if (SUMS > 1u) { sums[1] = shuffled_sum(v[1]); }
    if (SUMS > 2u) { sums[2] = shuffled_sum(v[2]); }
    if (SUMS > 3u) { sums[3] = shuffled_sum(v[3]); }
    return sums;
}
