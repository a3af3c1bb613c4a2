// 5-bit codes, 32 per packet. The lower four bits are as in `decode_u4`; the upper bits are in a plane of their own,
// where bit j of byte i belongs to element 4j + i.
struct Packet { low: vec4<u32>, high: u32 }
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(12) var<storage, read> high_codes: array<u32>;
fn load_packet(index: u32) -> Packet { return Packet(codes[index], high_codes[index]); }
// Codes 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 {
    let low = (w.low[j >> 1u] >> (4u * (j & 1u))) & 0x0f0f0f0fu;
    let high = select(w.high >> ((j - 4u) & 7u), w.high << ((4u - j) & 7u), j < 4u);
    return low | (high & 0x10101010u);
}
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(codes4(w, j))); }
