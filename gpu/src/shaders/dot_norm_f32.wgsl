// Products of weights with the RMS norm (arXiv 1910.07467) of float rows, [rows, K]. Every workgroup computes the norm
// itself, which takes less time than one more kernel.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm_weight: array<vec4<f32>>;
var<workgroup> normed: array<vec4<f32>, ROWS * K / 4u>;

const NORM_STEPS: u32 = (K / 4u + WG - 1u) / WG;

// Lanes keep their elements in registers from the sum of squares to the scaling.
fn prepare(lane: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var v: array<vec4<f32>, NORM_STEPS>;
        var weight: array<vec4<f32>, NORM_STEPS>;
        var squares = 0.0;
        for (var step = 0u; step < NORM_STEPS; step++) {
            let i = step * WG + lane;
            let at = min(i, K / 4u - 1u);
            v[step] = x[r * (K / 4u) + at];
            weight[step] = norm_weight[at];
            if (i < K / 4u) { squares += dot(v[step], v[step]); }
        }
        let scale = inverseSqrt(workgroup_sum(lane, squares) / f32(K) + EPSILON);
        for (var step = 0u; step < NORM_STEPS; step++) {
            let i = step * WG + lane;
            if (i < K / 4u) { normed[r * (K / 4u) + i] = v[step] * scale * weight[step]; }
        }
    }
    workgroupBarrier();
}

// Activations 4i to 4i+3.
fn floats4(i: u32) -> vec4<f32> { return normed[i]; }
