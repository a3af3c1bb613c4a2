// Adds a block's output to the residual, rows of WIDTH floats: hidden[row] += FACTOR * norm(scale * delta(row) + bias).
// The norm is the RMS norm (arXiv 1910.07467) if NORM is 1, otherwise there is none. The part `delta_*` defines delta.
// A workgroup per row.
@group(0) @binding(3) var<storage, read_write> hidden: array<vec4<f32>>;
// Weights of the norm, bias, and the scale.
@group(0) @binding(4) var<storage, read> residual_extra: array<vec4<f32>>;

// Vector i of a row before the norm.
fn shifted(row: u32, i: u32) -> vec4<f32> {
    return delta(row, i) * residual_extra[WIDTH / 2u].x + residual_extra[WIDTH / 4u + i];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var scale = FACTOR;
    if (NORM == 1u) {
        var squares = 0.0;
        for (var i = lane; i < WIDTH / 4u; i += WG) {
            let v = shifted(row, i);
            squares += dot(v, v);
        }
        scale *= inverseSqrt(workgroup_sum(lane, squares) / f32(WIDTH) + EPSILON);
    }
    for (var i = lane; i < WIDTH / 4u; i += WG) {
        var v = shifted(row, i) * scale;
        if (NORM == 1u) { v *= residual_extra[i]; }
        hidden[row * (WIDTH / 4u) + i] += v;
    }
}
