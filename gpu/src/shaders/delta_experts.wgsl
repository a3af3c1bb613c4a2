// The weighted sum of a row's experts, in the order of their scores, plus the shared expert. SHARED is 0 without a
// shared expert, 1 if it is added as it is, 2 if it is multiplied by the sigmoid of its score.
@group(0) @binding(1) var<storage, read> expert_rows: array<vec4<f32>>;
// [rows, USED]: an expert and the bits of its weight.
@group(0) @binding(2) var<storage, read> routes: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> shared_rows: array<vec4<f32>>;
// [rows, SCORES]: scores of the experts, then the score of the shared expert.
@group(0) @binding(6) var<storage, read> scores: array<f32>;
fn delta(row: u32, i: u32) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var slot = 0u; slot < USED; slot++) {
        let pair = row * USED + slot;
        sum += bitcast<f32>(routes[pair].y) * expert_rows[pair * (WIDTH / 4u) + i];
    }
    if (SHARED > 0u) {
        var weight = 1.0;
        if (SHARED == 2u) { weight = 1.0 / (1.0 + exp(-scores[row * SCORES + EXPERTS])); }
        sum += weight * shared_rows[row * (WIDTH / 4u) + i];
    }
    return sum;
}
