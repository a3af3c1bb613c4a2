// Keys and values as codes, with an f16 scale for every block of 32 elements, rotated by `hadamard.wgsl`. The page of a KV
// head is in one piece: codes [offset][dimension], then scales [offset][block], a whole number of words per offset. The
// format says what eight `Codes` are, and their `Place`.

// Eight elements as they are stored, and the number of vectors that they take in workgroup memory.
struct Eight {
    codes: Codes,
    scale: f32,
}
const EIGHT_VECTORS: u32 = 1u;

fn load_key(i: u32) -> Eight {
    let at = place(i, KEY8);
    return Eight(keys[at.codes], scale_of(keys[at.scales], at));
}
fn load_value(i: u32) -> Eight {
    let at = place(i, VALUE8);
    return Eight(values[at.codes], scale_of(values[at.scales], at));
}
fn or_zeros(e: Eight, seen: bool) -> Eight {
    return Eight(select(Codes(), e.codes, seen), select(0.0, e.scale, seen));
}
