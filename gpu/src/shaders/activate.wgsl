// Activation of a feed-forward network without a gate: act[row] = gate_of(x + bias), for rows of WIDTH floats. Rows of
// activations have ACT_WIDTH elements, which may be more; those beyond WIDTH are not written.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    let row = group.y;
    let at = min(i, WIDTH / 4u - 1u);
    store_act(lane, row, i, gate_of(x[row * (WIDTH / 4u) + at] + bias[at]), i < WIDTH / 4u);
}
