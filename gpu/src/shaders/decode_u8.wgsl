// Signed 8-bit codes, 16 per packet.
alias Packet = vec4<u32>;
const PACKET: u32 = 16u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn load_packet(index: u32) -> Packet { return codes[index]; }
// Codes 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 { return w[j]; }
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes4(w, j))); }
