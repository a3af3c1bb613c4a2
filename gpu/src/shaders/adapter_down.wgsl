// LoRA, first product: low[row][rank] = rows of K floats, X_STRIDE apart, times A, times the scale. A workgroup
// computes one rank of one row.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> low: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let uses = adapter_of(row);
    var rank = group.x;
    var start = NO_ADAPTER;
    var scale = 0.0;
    if (uses.x != NO_ADAPTER) {
        for (var pair = 0u; pair < PAIRS; pair++) {
            let at = pair_at(uses.x, pair);
            if (start == NO_ADAPTER && rank < pair_rank(at)) {
                start = pair_down(at) + rank * K;
                scale = pair_scale(at) * bitcast<f32>(uses.y);
            } else if (start == NO_ADAPTER) {
                rank -= pair_rank(at);
            }
        }
    }
    // Every lane takes part in the sum, even if its row uses no adapter.
    let count = select(0u, K, start != NO_ADAPTER);
    var sum = 0.0;
    for (var i = lane; i < count; i += WG) { sum += weight_at(start + i) * x[row * X_STRIDE + i]; }
    let total = workgroup_sum(lane, sum);
    if (lane == 0u && start != NO_ADAPTER) { low[row * low_stride() + group.x] = total * scale; }
}
