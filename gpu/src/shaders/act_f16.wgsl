// Output of a kernel for the next product: activations as f16, [rows, ACT_WIDTH].
@group(0) @binding(20) var<storage, read_write> act: array<vec2<u32>>;
// Largest finite f16. Larger values would become infinite.
const F16_MAX: vec4<f32> = vec4<f32>(65504.0);
// Stores elements 4i to 4i+3 of a row. Every lane of the workgroup calls it, with adjacent i.
fn store_act(lane: u32, row: u32, i: u32, value: vec4<f32>, valid: bool) {
    let v = clamp(value, -F16_MAX, F16_MAX);
    if (valid) { act[row * (ACT_WIDTH / 4u) + i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw)); }
}
