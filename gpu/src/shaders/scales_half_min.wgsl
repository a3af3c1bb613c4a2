// A half for the scale of each block of 32 weights and another for its minimum.
const OFFSETS: bool = true;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> Scale {
    let pair = unpack2x16float(scales[block]);
    return vec2<f32>(UNIT * pair.x, pair.y);
}
