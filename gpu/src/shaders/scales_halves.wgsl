// Scales of super-blocks of 256 weights in nine halves of a word: the super-block's f16 scale, then a signed byte for
// each 16 weights, by which the scale is multiplied: UNIT * scale * byte * code.
const OFFSETS: bool = false;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
// Two bytes. The bits above them are undefined.
fn scale_half(at: u32) -> u32 { return scales[at >> 1u] >> (16u * (at & 1u)); }
fn scale_of(block: u32) -> Scale {
    let at = 9u * (block >> 3u);
    let unit = UNIT * unpack2x16float(scale_half(at)).x;
    let pair = bitcast<i32>(scale_half(at + 1u + (block & 7u)));
    return vec4<f32>(unit * f32(extractBits(pair, 0u, 8u)), unit * f32(extractBits(pair, 8u, 8u)), 0.0, 0.0);
}
