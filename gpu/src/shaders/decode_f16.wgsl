// Weights as halves, 8 a packet.
const PACKET: u32 = 8u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn scale_of(block: u32) -> vec2<f32> { return vec2<f32>(1.0, 0.0); }
fn decode(w: vec4<u32>, j: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(w[2u * j]), unpack2x16float(w[2u * j + 1u]));
}
