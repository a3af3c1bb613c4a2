// bfloat16 weights, 8 per packet.
alias Packet = vec4<u32>;
const PACKET: u32 = 8u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn load_packet(index: u32) -> Packet { return codes[index]; }
// Weights 4j to 4j+3 of a packet.
fn decode(w: Packet, j: u32) -> vec4<f32> {
    let pairs = vec2<u32>(w[2u * j], w[2u * j + 1u]);
    let low = bitcast<vec2<f32>>(pairs << vec2<u32>(16u));
    let high = bitcast<vec2<f32>>(pairs & vec2<u32>(0xffff0000u));
    return vec4<f32>(low.x, high.x, low.y, high.y);
}
