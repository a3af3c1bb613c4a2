// Codes of signed bytes.
@group(0) @binding(2) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec2<u32>>;

alias Codes = vec2<u32>;

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

fn to_vector(e: Eight, n: u32) -> vec4<u32> { return vec4<u32>(e.codes, bitcast<u32>(e.scale), 0u); }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight { return Eight(a.xy, bitcast<f32>(a.z)); }

fn floats(e: Eight) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack4xI8(e.codes.x)) * e.scale,
        vec4<f32>(unpack4xI8(e.codes.y)) * e.scale,
    );
}
