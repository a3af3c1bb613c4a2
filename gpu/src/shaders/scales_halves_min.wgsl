// Scales of super-blocks of 256 weights in five words: the super-block's scale and minimum as f16, then a byte for each
// 16 weights with two factors from 0 to 15, the scale's in the low half: UNIT * scale * low * code + minimum * high.
const OFFSETS: bool = true;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> Scale {
    let at = 5u * (block >> 3u);
    let units = unpack2x16float(scales[at]);
    let pair = scales[at + 1u + ((block >> 1u) & 3u)] >> (16u * (block & 1u));
    let parts = vec4<f32>(unpack4xU8((pair & 0x0f0fu) | ((pair & 0xf0f0u) << 12u)));
    return parts * vec4<f32>(vec2<f32>(UNIT * units.x), vec2<f32>(units.y));
}
