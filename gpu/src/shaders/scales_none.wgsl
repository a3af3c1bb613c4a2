// Weights without scales.
const OFFSETS: bool = false;
fn scale_of(block: u32) -> Scale { return vec2<f32>(1.0, 0.0); }
