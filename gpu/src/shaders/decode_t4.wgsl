// 4-bit codes that index a table, 32 per packet, as in `decode_u4`. TABLE_0 to TABLE_15 are the values, each repeated
// in all four bytes. A tree of selections finds four values at once. Array elements would be slow to read where lanes
// read different ones.
alias Packet = vec4<u32>;
const PACKET: u32 = 32u;
@group(0) @binding(10) var<storage, read> codes: array<vec4<u32>>;
fn load_packet(index: u32) -> Packet { return codes[index]; }
// Values 4j to 4j+3 of a packet, as signed bytes.
fn codes4(w: Packet, j: u32) -> u32 {
    let word = w[j >> 1u] >> (4u * (j & 1u));
    let a = set_bytes(word);
    let b = set_bytes(word >> 1u);
    let c = set_bytes(word >> 2u);
    let e0 = choose(choose(TABLE_0, TABLE_1, a), choose(TABLE_2, TABLE_3, a), b);
    let e4 = choose(choose(TABLE_4, TABLE_5, a), choose(TABLE_6, TABLE_7, a), b);
    let e8 = choose(choose(TABLE_8, TABLE_9, a), choose(TABLE_10, TABLE_11, a), b);
    let e12 = choose(choose(TABLE_12, TABLE_13, a), choose(TABLE_14, TABLE_15, a), b);
    return choose(choose(e0, e4, c), choose(e8, e12, c), set_bytes(word >> 3u));
}
// The same as floats.
fn decode(w: Packet, j: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes4(w, j))); }
// Sets all bits of the bytes whose lowest bit is set.
fn set_bytes(word: u32) -> u32 { return (word & 0x01010101u) * 255u; }
// The bits of `b` where the mask is set, otherwise those of `a`.
fn choose(a: u32, b: u32, mask: u32) -> u32 { return a ^ ((a ^ b) & mask); }
