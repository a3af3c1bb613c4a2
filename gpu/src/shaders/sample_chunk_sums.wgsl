// Draw from the whole vocabulary, first half: the largest key of each chunk of CHUNK_PACKETS packets, and the sum of
// weights relative to it. Workgroups [chunk, row].
@group(0) @binding(6) var<storage, read_write> partials: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    if (!row_is(row, FULL)) { return; }
    var keys: array<vec4<u32>, CHUNK_PACKETS / WG>;
    var most = vec4<u32>(0u);
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        keys[i] = packet_keys(row, group.x * CHUNK_PACKETS + i * WG + lane);
        most = max(most, keys[i]);
    }
    let top = workgroup_most(lane, max(max(most.x, most.y), max(most.z, most.w)));
    let temperature = sample_rows[row].temperature;
    var sum = 0.0;
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        for (var e = 0u; e < 4u; e++) { sum += weight(keys[i][e], top, temperature); }
    }
    let total = scan_weights(lane, sum).y;
    if (lane == 0u) {
        partials[row * ROW_PARTIALS + 2u * group.x] = top;
        partials[row * ROW_PARTIALS + 2u * group.x + 1u] = bitcast<u32>(total);
    }
}
