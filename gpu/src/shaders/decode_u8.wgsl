// Weights as signed 8-bit codes, 16 a packet; a half scale for 32 of them.
const PACKET: u32 = 16u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
// Scale and offset of a block of 32: weight = scale * code + offset.
fn scale_of(block: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[block >> 1u]);
    return vec2<f32>(select(pair.x, pair.y, (block & 1u) == 1u), 0.0);
}
// Codes 4j to 4j+3 of a packet.
fn decode(w: vec4<u32>, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(w[j])); }
// The same, packed as signed bytes.
fn codes4(w: vec4<u32>, j: u32) -> u32 { return w[j]; }
