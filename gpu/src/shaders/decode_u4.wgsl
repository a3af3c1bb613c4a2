// Weights as 4-bit codes, 32 a packet, around a zero point of 8; a half scale for 32 of them.
// Word j of a packet holds elements 8j to 8j+3 in the low halves of its bytes and 8j+4 to 8j+7 in the high ones.
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
fn scale_of(block: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[block >> 1u]);
    let scale = select(pair.x, pair.y, (block & 1u) == 1u);
    return vec2<f32>(scale, -8.0 * scale);
}
fn codes4(w: vec4<u32>, j: u32) -> u32 { return (w[j >> 1u] >> (4u * (j & 1u))) & 0x0f0f0f0fu; }
fn decode(w: vec4<u32>, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(codes4(w, j))); }
