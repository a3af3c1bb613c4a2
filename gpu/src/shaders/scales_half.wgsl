// An f16 scale for each block of 32 weights: scale * UNIT * (code - ZERO).
const OFFSETS: bool = ZERO != 0.0;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> Scale {
    let pair = unpack2x16float(scales[block >> 1u]);
    let scale = UNIT * select(pair.x, pair.y, (block & 1u) == 1u);
    if (OFFSETS) { return vec2<f32>(scale, -ZERO * scale); }
    return vec2<f32>(scale, 0.0);
}
