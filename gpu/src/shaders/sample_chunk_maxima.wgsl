// Greedy sampling, first half: key and id of the largest logit of each chunk of CHUNK_PACKETS packets. Workgroups
// [chunk, row].
@group(0) @binding(6) var<storage, read_write> partials: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    if (!row_is(row, GREEDY)) { return; }
    var keys: array<vec4<u32>, CHUNK_PACKETS / WG>;
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        keys[i] = packet_keys(row, group.x * CHUNK_PACKETS + i * WG + lane);
    }
    // A lane's ids ascend, so that the first of equal keys is kept.
    var best = 0u;
    var id = 0u;
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        let first = packet_id(row, group.x * CHUNK_PACKETS + i * WG + lane);
        for (var e = 0u; e < 4u; e++) {
            if (keys[i][e] > best) {
                best = keys[i][e];
                id = first + e;
            }
        }
    }
    let top = workgroup_most(lane, best);
    // The lowest id has the largest complement.
    let lowest = ~workgroup_most(lane, select(0u, ~id, best == top));
    if (lane == 0u) {
        partials[row * ROW_PARTIALS + 2u * group.x] = top;
        partials[row * ROW_PARTIALS + 2u * group.x + 1u] = lowest;
    }
}
