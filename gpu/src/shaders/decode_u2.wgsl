// 2-bit codes, 32 per packet. Byte i of group j contains element 4j + i. A word has four groups, from the low bits up.
alias Packet = vec2<u32>;
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec2<u32>>;
fn load_packet(index: u32) -> Packet { return codes[index]; }
// Codes 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 { return (w[j >> 2u] >> (2u * (j & 3u))) & 0x03030303u; }
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(codes4(w, j))); }
