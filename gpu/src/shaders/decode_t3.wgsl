// 3-bit codes that index a table, 32 per packet. The lower two bits are as in `decode_u2`; the upper bits are in a
// plane of their own, where bit j of byte i belongs to element 4j + i. TABLE_0 to TABLE_7 are the values, each repeated
// in all four bytes.
struct Packet { low: vec2<u32>, high: u32 }
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(12) var<storage, read> high_codes: array<u32>;
fn load_packet(index: u32) -> Packet { return Packet(codes[index], high_codes[index]); }
// Values 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 {
    let word = w.low[j >> 2u] >> (2u * (j & 3u));
    let a = set_bytes(word);
    let b = set_bytes(word >> 1u);
    let low = choose(choose(TABLE_0, TABLE_1, a), choose(TABLE_2, TABLE_3, a), b);
    let high = choose(choose(TABLE_4, TABLE_5, a), choose(TABLE_6, TABLE_7, a), b);
    return choose(low, high, set_bytes(w.high >> j));
}
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes4(w, j))); }
// Sets all bits of the bytes whose lowest bit is set.
fn set_bytes(word: u32) -> u32 { return (word & 0x01010101u) * 255u; }
// The bits of `b` where the mask is set, otherwise those of `a`.
fn choose(a: u32, b: u32, mask: u32) -> u32 { return a ^ ((a ^ b) & mask); }
