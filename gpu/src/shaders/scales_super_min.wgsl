// Scales of super-blocks of 256 weights in five words: the super-block's scale and minimum as f16, then two signed
// bytes per block of 32, by which they are multiplied: UNIT * scale * byte * code + minimum * byte.
const OFFSETS: bool = true;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> Scale {
    let at = 5u * (block >> 3u);
    let units = unpack2x16float(scales[at]);
    let pair = bitcast<i32>(scales[at + 1u + ((block >> 1u) & 3u)] >> (16u * (block & 1u)));
    return vec2<f32>(UNIT * units.x * f32(extractBits(pair, 0u, 8u)), units.y * f32(extractBits(pair, 8u, 8u)));
}
