// Rotates attention's output back, where the cache stores rotated values, and stores it as activations. Rows are
// [HEADS][VALUE]. A workgroup processes HG heads of a row.
@group(0) @binding(1) var<storage, read> rows: array<vec4<f32>>;

const ROTATED: u32 = HG * VALUE;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let first = group.x * (ROTATED / 4u);
    let count = min(ROTATED / 4u, ACT_WIDTH / 4u - first);
    for (var i = lane; i < ROTATED / 4u; i += WG) {
        var v = vec4<f32>(0.0);
        if (i < count) { v = rows[row * (ACT_WIDTH / 4u) + first + i]; }
        head[4u * i] = v.x;
        head[4u * i + 1u] = v.y;
        head[4u * i + 2u] = v.z;
        head[4u * i + 3u] = v.w;
    }
    hadamard(lane, ROTATED, VALUE);
    for (var base = 0u; base < ROTATED / 4u; base += WG) {
        let i = min(base + lane, ROTATED / 4u - 1u);
        let v = vec4<f32>(head[4u * i], head[4u * i + 1u], head[4u * i + 2u], head[4u * i + 3u]);
        store_act(lane, row, first + i, v, base + lane < count);
    }
}
