// Gated activation: act[row] = gate_of(gate) * up, for rows that contain gate and up side by side, WIDTH floats each.
// Rows of activations have ACT_WIDTH elements, which may be more; those beyond WIDTH are not written.
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    let row = group.y;
    let valid = i < WIDTH / 4u;
    let at = row * (WIDTH / 2u) + min(i, WIDTH / 4u - 1u);
    store_act(lane, row, i, gate_of(gate_up[at]) * gate_up[at + WIDTH / 4u], valid);
}
