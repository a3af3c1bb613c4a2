// Keys and values as signed bytes, with an f16 scale for every block of 32 elements, rotated by `hadamard.wgsl`. The
// page of a KV head is in one piece: codes [offset][dimension], then scales [offset][block], a whole number of words
// per offset.
@group(0) @binding(2) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec2<u32>>;

// Eight elements as they are stored, and the number of vectors that they take in workgroup memory.
struct Eight {
    codes: vec2<u32>,
    scale: f32,
}
const EIGHT_VECTORS: u32 = 1u;

// The place of eight elements: of their codes, and of the word with their scale.
struct Place {
    codes: u32,
    scales: u32,
    word: u32,
    second: u32,
}

// Place of eight elements of heads of 8 * `width` elements.
fn place(i: u32, width: u32) -> Place {
    let scales = (width + 7u) / 8u;
    let page = (i / (PAGE * width)) * (PAGE * width + PAGE / 2u * scales);
    let code = i % (PAGE * width);
    let word = (code / width) * scales + (code % width) / 8u;
    return Place(page + code, page + PAGE * width + word / 2u, word % 2u, (code % width) / 4u % 2u);
}

fn scale_of(words: vec2<u32>, at: Place) -> f32 {
    let scales = unpack2x16float(select(words.x, words.y, at.word == 1u));
    return select(scales.x, scales.y, at.second == 1u);
}

fn load_key(i: u32) -> Eight {
    let at = place(i, KEY8);
    return Eight(keys[at.codes], scale_of(keys[at.scales], at));
}
fn load_value(i: u32) -> Eight {
    let at = place(i, VALUE8);
    return Eight(values[at.codes], scale_of(values[at.scales], at));
}
fn or_zeros(e: Eight, seen: bool) -> Eight {
    return Eight(select(vec2<u32>(0u), e.codes, seen), select(0.0, e.scale, seen));
}
fn to_vector(e: Eight, n: u32) -> vec4<u32> { return vec4<u32>(e.codes, bitcast<u32>(e.scale), 0u); }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight { return Eight(a.xy, bitcast<f32>(a.z)); }

fn floats(e: Eight) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack4xI8(e.codes.x)) * e.scale,
        vec4<f32>(unpack4xI8(e.codes.y)) * e.scale,
    );
}
