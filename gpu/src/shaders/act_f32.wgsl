// Output of a kernel for the next product: activations as f32, [rows, ACT_WIDTH].
@group(0) @binding(20) var<storage, read_write> act: array<vec4<f32>>;
// Stores elements 4i to 4i+3 of a row. Every lane of the workgroup calls it, with adjacent i.
fn store_act(lane: u32, row: u32, i: u32, value: vec4<f32>, valid: bool) {
    if (valid) { act[row * (ACT_WIDTH / 4u) + i] = value; }
}
