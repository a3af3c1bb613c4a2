// SwiGLU (arXiv 2002.05202) of rows that hold gate and up side by side: act[row] = silu(gate) * up. ACT_WIDTH wide.
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    let row = group.y;
    let valid = i < ACT_WIDTH / 4u;
    let at = row * (ACT_WIDTH / 2u) + min(i, ACT_WIDTH / 4u - 1u);
    let gate = gate_up[at];
    store_act(lane, row, i, gate / (1.0 + exp(-gate)) * gate_up[at + ACT_WIDTH / 4u], valid);
}
