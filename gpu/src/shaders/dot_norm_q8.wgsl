// Products of weight codes with the RMS norm (arXiv 1910.07467) of float rows, [rows, K], rounded to 8 bits as in
// `act_q8`. Every workgroup computes the norm itself, which takes less time than one more kernel.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm_weight: array<vec4<f32>>;
var<workgroup> normed: array<vec4<u32>, ROWS * K / 16u>;
// Scale and sum of each block of 32.
var<workgroup> normed_scales: array<vec2<f32>, ROWS * K / 32u>;

const NORM_STEPS: u32 = (K / 16u + WG - 1u) / WG;

// A lane processes 16 adjacent elements, so that two lanes process a block. It keeps them in registers from the sum of
// squares to the rounding.
fn prepare(lane: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var v: array<vec4<f32>, 4u * NORM_STEPS>;
        var weight: array<vec4<f32>, 4u * NORM_STEPS>;
        var squares = 0.0;
        for (var step = 0u; step < NORM_STEPS; step++) {
            let i = step * WG + lane;
            let at = min(i, K / 16u - 1u) * 4u;
            for (var e = 0u; e < 4u; e++) {
                v[4u * step + e] = x[r * (K / 4u) + at + e];
                weight[4u * step + e] = norm_weight[at + e];
            }
            if (i < K / 16u) {
                for (var e = 0u; e < 4u; e++) { squares += dot(v[4u * step + e], v[4u * step + e]); }
            }
        }
        let scale = inverseSqrt(workgroup_sum(lane, squares) / f32(K) + EPSILON);
        for (var step = 0u; step < NORM_STEPS; step++) {
            let i = step * WG + lane;
            let a = v[4u * step] * scale * weight[4u * step];
            let b = v[4u * step + 1u] * scale * weight[4u * step + 1u];
            let c = v[4u * step + 2u] * scale * weight[4u * step + 2u];
            let d = v[4u * step + 3u] * scale * weight[4u * step + 3u];
            let m = max(max(abs(a), abs(b)), max(abs(c), abs(d)));
            let top = max(max(m.x, m.y), max(m.z, m.w));
            let unit = pair_max(lane, top) / 127.0;
            let inverse = select(0.0, 1.0 / unit, unit > 0.0);
            let qa = vec4<i32>(round(a * inverse));
            let qb = vec4<i32>(round(b * inverse));
            let qc = vec4<i32>(round(c * inverse));
            let qd = vec4<i32>(round(d * inverse));
            let all = qa + qb + qc + qd;
            let sum = pair_sum(lane, f32(all.x + all.y + all.z + all.w));
            if (i < K / 16u) {
                normed[r * (K / 16u) + i] = vec4<u32>(pack4xI8(qa), pack4xI8(qb), pack4xI8(qc), pack4xI8(qd));
                if (i % 2u == 0u) { normed_scales[r * (K / 32u) + i / 2u] = vec2<f32>(unit, unit * sum); }
            }
        }
    }
    workgroupBarrier();
}

// Activations 16i to 16i+15.
fn codes16(i: u32) -> vec4<u32> { return normed[i]; }
// Scale and sum of a block of 32.
fn code_block(i: u32) -> vec2<f32> { return normed_scales[i]; }
