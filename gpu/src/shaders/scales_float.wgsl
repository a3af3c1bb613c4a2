// An f32 scale for each block of 32 weights: scale * UNIT * code.
const OFFSETS: bool = false;
@group(0) @binding(11) var<storage, read> scales: array<f32>;
fn scale_of(block: u32) -> Scale { return vec2<f32>(UNIT * scales[block], 0.0); }
