// Weights as 32-bit floats, 4 a packet.
const PACKET: u32 = 4u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn scale_of(block: u32) -> vec2<f32> { return vec2<f32>(1.0, 0.0); }
fn decode(w: vec4<u32>, j: u32) -> vec4<f32> { return bitcast<vec4<f32>>(w); }
