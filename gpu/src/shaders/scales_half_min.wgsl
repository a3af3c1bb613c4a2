// For each block of 32 weights an f16 scale and an f16 minimum.
const OFFSETS: bool = true;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> Scale {
    let pair = unpack2x16float(scales[block]);
    return vec2<f32>(UNIT * pair.x, pair.y);
}
