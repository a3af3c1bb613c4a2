// Greedy sampling, second half: the largest of the chunks' maxima, the lowest id among equals. A workgroup per row.
@group(0) @binding(6) var<storage, read> partials: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (!row_is(row, GREEDY)) { return; }
    var best = 0u;
    var id = 0u;
    for (var chunk = lane; chunk < CHUNKS; chunk += WG) {
        let key = partials[row * ROW_PARTIALS + 2u * chunk];
        let its = partials[row * ROW_PARTIALS + 2u * chunk + 1u];
        if (key > best) {
            best = key;
            id = its;
        }
    }
    let top = workgroup_most(lane, best);
    let lowest = ~workgroup_most(lane, select(0u, ~id, best == top));
    if (lane == 0u) { store_token(row, select(lowest, NO_TOKEN, top == 0u)); }
}
