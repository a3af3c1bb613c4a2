// 3-bit codes around their zero point, 32 per packet. The lower two bits are as in `decode_u2`; the upper bits are in a
// plane of their own, where bit j of byte i belongs to element 4j + i. Codes become the upper bits of signed bytes,
// which makes them 32 times as large.
struct Packet { low: vec2<u32>, high: u32 }
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(12) var<storage, read> high_codes: array<u32>;
fn load_packet(index: u32) -> Packet { return Packet(codes[index], high_codes[index]); }
// Codes 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 {
    let q = j & 3u;
    let word = w.low[j >> 2u];
    let low = select(word << ((5u - 2u * q) & 7u), word >> 1u, q == 3u);
    return (low & 0x60606060u) | ((w.high << (7u - j)) & 0x80808080u);
}
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes4(w, j))); }
