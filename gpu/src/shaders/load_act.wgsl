// Converts rows of ACT_WIDTH floats to activations. A workgroup converts WG vectors of a row.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    let row = group.y;
    store_act(lane, row, i, x[row * (ACT_WIDTH / 4u) + min(i, ACT_WIDTH / 4u - 1u)], i < ACT_WIDTH / 4u);
}
