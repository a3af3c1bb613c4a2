// RMS norm (arXiv 1910.07467) of rows of ACT_WIDTH floats: act[row] = x[row] / rms(x[row]) * weight. A workgroup per
// row.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

const STEPS: u32 = (ACT_WIDTH / 4u + WG - 1u) / WG;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    // GATHER: only the rows whose logits are computed.
    var source = row;
    if (GATHER == 1u) { source = logit_row(row); }
    let start = source * (ACT_WIDTH / 4u);
    var squares = 0.0;
    for (var i = lane; i < ACT_WIDTH / 4u; i += WG) {
        let v = x[start + i];
        squares += dot(v, v);
    }
    let scale = inverseSqrt(workgroup_sum(lane, squares) / f32(ACT_WIDTH) + EPSILON);
    for (var step = 0u; step < STEPS; step++) {
        let i = step * WG + lane;
        let valid = i < ACT_WIDTH / 4u;
        let at = min(i, ACT_WIDTH / 4u - 1u);
        store_act(lane, row, i, x[start + at] * scale * weight[at], valid);
    }
}
