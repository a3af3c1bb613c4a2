// Rows of logits, [rows, VOCABULARY] floats, read as keys: integers in the order of the logits, so that float
// arithmetic never sees NaN or infinity. A key of 0 means that the token cannot be chosen: NaN, -inf, or not a logit of
// this row. Both zeros have the same key. A row is read in PACKETS packets of four that are aligned in memory. If
// VOCABULARY is not a multiple of four, its first and last packets contain logits of the adjacent rows.
@group(0) @binding(1) var<storage, read> logits: array<vec4<u32>>;

const SIGN: u32 = 0x80000000u;
const INFINITY_BITS: u32 = 0x7f800000u;

fn keys_of(bits: vec4<u32>) -> vec4<u32> {
    let ordered = select(bits | vec4<u32>(SIGN), ~bits, bits > vec4<u32>(SIGN));
    let finite = (bits & vec4<u32>(~SIGN)) < vec4<u32>(INFINITY_BITS);
    return select(vec4<u32>(0u), ordered, finite | (bits == vec4<u32>(INFINITY_BITS)));
}

// Id of the first logit of a row's packet. Wraps below 0 if the logit belongs to the row before.
fn packet_id(row: u32, packet: u32) -> u32 { return 4u * packet - (row * VOCABULARY) % 4u; }

// Keys of the row's packet; 0 past the row.
fn packet_keys(row: u32, packet: u32) -> vec4<u32> {
    let start = row * VOCABULARY;
    // Loads unconditionally, so that loads do not wait for a branch.
    let bits = logits[min(start / 4u + packet, (start + VOCABULARY - 1u) / 4u)];
    let ids = packet_id(row, packet) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<u32>(0u), keys_of(bits), ids < vec4<u32>(VOCABULARY));
}
