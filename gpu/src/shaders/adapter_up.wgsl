// LoRA, second product: adds B times `low` to rows of N outputs, OUT_STRIDE apart. A lane computes one output of one
// row.
@group(0) @binding(4) var<storage, read> low: array<f32>;
@group(0) @binding(30) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * WG + lane;
    let row = group.y;
    let uses = adapter_of(row);
    if (uses.x == NO_ADAPTER || column >= N) { return; }
    var entry = row * low_stride();
    for (var pair = 0u; pair < PAIRS; pair++) {
        let at = pair_at(uses.x, pair);
        let rank = pair_rank(at);
        let outputs = pair_outputs(at);
        // Columns before the first one wrap around, and so are past the last one.
        let output = column - pair_first(at);
        if (rank > 0u && output < outputs) {
            var sum = 0.0;
            for (var k = 0u; k < rank; k++) { sum += weight_at(pair_up(at) + k * outputs + output) * low[entry + k]; }
            out[row * OUT_STRIDE + column] += sum;
        }
        entry += rank;
    }
}
