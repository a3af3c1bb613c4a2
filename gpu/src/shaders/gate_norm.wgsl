// As `gate_mul`, but gate and up are first scaled and their biases added, and an RMS norm (arXiv 1910.07467) follows. A
// workgroup per row.
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>;
// Weights of the norm, the scales of gate and up in one vector, then their biases if BIAS is 1.
@group(0) @binding(2) var<storage, read> gate_extra: array<vec4<f32>>;

const STEPS: u32 = (WIDTH / 4u + WG - 1u) / WG;

// Vector i of a row before the norm.
fn gated(row: u32, i: u32) -> vec4<f32> {
    let at = row * (WIDTH / 2u) + i;
    let scale = gate_extra[WIDTH / 4u];
    var gate = gate_up[at] * scale.x;
    var up = gate_up[at + WIDTH / 4u] * scale.y;
    if (BIAS == 1u) {
        let bias = WIDTH / 4u + 1u + i;
        gate += gate_extra[bias];
        up += gate_extra[bias + WIDTH / 4u];
    }
    return gate_of(gate) * up;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var scale = 1.0;
    if (NORM == 1u) {
        var squares = 0.0;
        for (var i = lane; i < WIDTH / 4u; i += WG) {
            let v = gated(row, i);
            squares += dot(v, v);
        }
        scale = inverseSqrt(workgroup_sum(lane, squares) / f32(WIDTH) + EPSILON);
    }
    for (var step = 0u; step < STEPS; step++) {
        let i = step * WG + lane;
        let at = min(i, WIDTH / 4u - 1u);
        var v = gated(row, at) * scale;
        if (NORM == 1u) { v *= gate_extra[at]; }
        store_act(lane, row, i, v, i < WIDTH / 4u);
    }
}
