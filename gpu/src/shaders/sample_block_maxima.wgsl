// Top-k, first half: the largest key of each block of 8 packets. Workgroups [chunk, row].
@group(0) @binding(6) var<storage, read_write> partials: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    if (!row_is(row, TOP_K)) { return; }
    var keys: array<vec4<u32>, CHUNK_PACKETS / WG>;
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        keys[i] = packet_keys(row, group.x * CHUNK_PACKETS + i * WG + lane);
    }
    for (var i = 0u; i < CHUNK_PACKETS / WG; i++) {
        let packet = group.x * CHUNK_PACKETS + i * WG + lane;
        let most = most8(lane, max(max(keys[i].x, keys[i].y), max(keys[i].z, keys[i].w)));
        if (lane % 8u == 0u && packet < PACKETS) { partials[row * ROW_PARTIALS + packet / 8u] = most; }
    }
}
