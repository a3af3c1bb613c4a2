// Output of a kernel for the next product: activations as signed bytes, [rows, ACT_WIDTH], with a scale and a sum
// (scale times the sum of the codes) for each block of 32.
@group(0) @binding(20) var<storage, read_write> act: array<u32>;
@group(0) @binding(21) var<storage, read_write> act_scales: array<vec2<f32>>;
// Stores elements 4i to 4i+3 of a row. Every lane of the workgroup calls it, with adjacent i, so that eight aligned
// lanes store a block.
fn store_act(lane: u32, row: u32, i: u32, value: vec4<f32>, valid: bool) {
    let v = select(vec4<f32>(0.0), value, vec4<bool>(valid));
    let top = max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
    let scale = max8(lane, top) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    let q = vec4<i32>(round(v * inverse));
    let sum = sum8(lane, f32(q.x + q.y + q.z + q.w));
    if (valid) {
        act[row * (ACT_WIDTH / 4u) + i] = pack4xI8(q);
        if ((i & 7u) == 0u) { act_scales[row * (ACT_WIDTH / 32u) + i / 8u] = vec2<f32>(scale, scale * sum); }
    }
}
