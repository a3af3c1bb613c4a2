// Scales of super-blocks of 256 weights in five halves of a word: the super-block's f16 scale, then eight signed bytes,
// one per block of 32, by which the scale is multiplied: UNIT * scale * byte * (code - ZERO).
const OFFSETS: bool = ZERO != 0.0;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
// Two bytes. The bits above them are undefined.
fn scale_half(at: u32) -> u32 { return scales[at >> 1u] >> (16u * (at & 1u)); }
fn scale_of(block: u32) -> Scale {
    let at = 5u * (block >> 3u);
    let unit = UNIT * unpack2x16float(scale_half(at)).x;
    let pair = bitcast<i32>(scale_half(at + 1u + ((block >> 1u) & 3u)));
    let scale = unit * f32(extractBits(pair, 8u * (block & 1u), 8u));
    if (OFFSETS) { return vec2<f32>(scale, -ZERO * scale); }
    return vec2<f32>(scale, 0.0);
}
