// Weights as bfloat16, 8 a packet.
const PACKET: u32 = 8u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn scale_of(block: u32) -> vec2<f32> { return vec2<f32>(1.0, 0.0); }
fn decode(w: vec4<u32>, j: u32) -> vec4<f32> {
    let pairs = vec2<u32>(w[2u * j], w[2u * j + 1u]);
    let low = bitcast<vec2<f32>>(pairs << vec2<u32>(16u));
    let high = bitcast<vec2<f32>>(pairs & vec2<u32>(0xffff0000u));
    return vec4<f32>(low.x, high.x, low.y, high.y);
}
