// Without splits, the sums become activations.
fn splits() -> u32 { return 1u; }
// Stores vector e of head `head` + h.
fn finish(lane: u32, row: u32, split: u32, head: u32, h: u32, e: u32, sum: vec4<f32>, total: f32, valid: bool) {
    store_act(lane, row, (head + h) * VALUE4 + e, sum / total, valid);
}
