// Keys and values in 2 bits. A cache is the sealed pages of all slots, then the pages of the newest tokens, which are f16 as
// in `kv_halves.wgsl`; slots of these count on from SEALED_SLOTS. A sealed page of a head is codes [offset][dimension], a
// whole number of words per offset, then a word with scale and minimum (f16) for each dimension of keys, or for each
// [offset][32 dimensions] of values. Part `kv_kivi2_page.wgsl` has the sizes.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;

// Eight elements as f16, and the number of vectors that they take in workgroup memory.
alias Eight = vec4<u32>;
const EIGHT_VECTORS: u32 = 1u;

// A group of eight in a page of `width` groups per token: the page, the offset, the group.
fn group_of(i: u32, width: u32) -> vec3<u32> {
    return vec3<u32>(i / (PAGE * width), (i / width) % PAGE, i % width);
}

// Two elements, `codes` from their lowest bits up. A level is a scale and a minimum.
fn pair_of(codes: u32, a: vec2<f32>, b: vec2<f32>) -> u32 {
    let code = vec2<f32>(f32(codes & 3u), f32((codes >> 2u) & 3u));
    return pack2x16float(vec2<f32>(a.y, b.y) + vec2<f32>(a.x, b.x) * code);
}

fn load_key(i: u32) -> Eight {
    let g = group_of(i, KEY / 8u);
    if (g.x >= SEALED_PAGES) {
        let at = SEALED_PAGES * KEY_PAGE + 4u * (i - SEALED_PAGES * PAGE * (KEY / 8u));
        return vec4<u32>(keys[at], keys[at + 1u], keys[at + 2u], keys[at + 3u]);
    }
    let page = g.x * KEY_PAGE;
    let codes = keys[page + g.y * KEY_ROW + g.z / 2u] >> (16u * (g.z % 2u));
    let at = page + PAGE * KEY_ROW + 8u * g.z;
    return vec4<u32>(
        pair_of(codes, unpack2x16float(keys[at]), unpack2x16float(keys[at + 1u])),
        pair_of(codes >> 4u, unpack2x16float(keys[at + 2u]), unpack2x16float(keys[at + 3u])),
        pair_of(codes >> 8u, unpack2x16float(keys[at + 4u]), unpack2x16float(keys[at + 5u])),
        pair_of(codes >> 12u, unpack2x16float(keys[at + 6u]), unpack2x16float(keys[at + 7u])),
    );
}

fn load_value(i: u32) -> Eight {
    let g = group_of(i, VALUE / 8u);
    if (g.x >= SEALED_PAGES) {
        let at = SEALED_PAGES * VALUE_PAGE + 4u * (i - SEALED_PAGES * PAGE * (VALUE / 8u));
        return vec4<u32>(values[at], values[at + 1u], values[at + 2u], values[at + 3u]);
    }
    let page = g.x * VALUE_PAGE;
    let codes = values[page + g.y * VALUE_ROW + g.z / 2u] >> (16u * (g.z % 2u));
    let level = unpack2x16float(values[page + PAGE * VALUE_ROW + g.y * VALUE_BLOCKS + g.z / 4u]);
    return vec4<u32>(
        pair_of(codes, level, level),
        pair_of(codes >> 4u, level, level),
        pair_of(codes >> 8u, level, level),
        pair_of(codes >> 12u, level, level),
    );
}

fn or_zeros(e: Eight, seen: bool) -> Eight { return select(vec4<u32>(0u), e, seen); }
fn to_vector(e: Eight, n: u32) -> vec4<u32> { return e; }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight { return a; }
