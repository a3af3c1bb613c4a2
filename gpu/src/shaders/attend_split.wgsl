// With several splits, each stores the partial sums that `attend_combine` merges: [row][head][split], VALUE sums
// followed by a vector with the largest score and the sum of the terms.
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
fn splits() -> u32 { return wave_splits(); }
// Stores vector e of head `head` + h.
fn finish(lane: u32, row: u32, split: u32, head: u32, h: u32, e: u32, sum: vec4<f32>, total: f32, valid: bool) {
    if (valid) {
        let at = ((row * HEADS + head + h) * wave_splits() + split) * (VALUE4 + 1u);
        partials[at + e] = sum;
        if (e == 0u) { partials[at + VALUE4] = vec4<f32>(top_of(h), total, 0.0, 0.0); }
    }
}
