// LayerNorm in place (arXiv 1607.06450) of rows of WIDTH floats: x[row] = (x[row] - mean) / deviation * weight + bias.
// A workgroup per row.
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
// Weights, then the bias.
@group(0) @binding(2) var<storage, read> norm_extra: array<vec4<f32>>;

const WIDTH4: u32 = WIDTH / 4u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = group.x * WIDTH4;
    var sum = 0.0;
    for (var i = lane; i < WIDTH4; i += WG) {
        let v = x[start + i];
        sum += (v.x + v.y) + (v.z + v.w);
    }
    let mean = workgroup_sum(lane, sum) / f32(WIDTH);
    var squares = 0.0;
    for (var i = lane; i < WIDTH4; i += WG) {
        let v = x[start + i] - mean;
        squares += dot(v, v);
    }
    let scale = inverseSqrt(workgroup_sum(lane, squares) / f32(WIDTH) + EPSILON);
    for (var i = lane; i < WIDTH4; i += WG) {
        x[start + i] = (x[start + i] - mean) * scale * norm_extra[i] + norm_extra[WIDTH4 + i];
    }
}
