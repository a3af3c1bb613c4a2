// f32 weights, 4 per packet.
alias Packet = vec4<u32>;
const PACKET: u32 = 4u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn load_packet(index: u32) -> Packet { return codes[index]; }
// Weights 4j to 4j+3 of a packet.
fn decode(w: Packet, j: u32) -> vec4<f32> { return bitcast<vec4<f32>>(w); }
