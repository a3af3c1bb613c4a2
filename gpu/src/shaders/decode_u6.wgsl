// 6-bit codes around their zero point, 32 per packet. The lower four bits are as in `decode_u4`; the upper two are in a
// plane of their own, as in `decode_u2`. Codes become the upper bits of signed bytes, which makes them 4 times as
// large.
struct Packet { low: vec4<u32>, high: vec2<u32> }
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(12) var<storage, read> high_codes: array<vec2<u32>>;
fn load_packet(index: u32) -> Packet { return Packet(codes[index], high_codes[index]); }
// Codes 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 {
    let word = w.low[j >> 1u];
    let low = select(word << 2u, word >> 2u, (j & 1u) == 1u);
    let high = w.high[j >> 2u] << (6u - 2u * (j & 3u));
    return (low & 0x3c3c3c3cu) | (high & 0xc0c0c0c0u);
}
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes4(w, j))); }
