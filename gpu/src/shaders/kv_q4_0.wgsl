// Codes of 4 bits from -8 to 7, stored plus 8. A byte has elements i and i + 4 of a word's eight.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;

alias Codes = u32;

// The place of eight elements: of their codes, of the word with their scale, and 1 for the second scale of the word.
struct Place {
    codes: u32,
    scales: u32,
    second: u32,
}

// Place of eight elements of heads of 8 * `width` elements.
fn place(i: u32, width: u32) -> Place {
    let scales = (width + 7u) / 8u;
    let page = (i / (PAGE * width)) * PAGE * (width + scales);
    let code = i % (PAGE * width);
    let word = (code / width) * scales + (code % width) / 8u;
    return Place(page + code, page + PAGE * width + word, (code % width) / 4u % 2u);
}

fn scale_of(word: u32, at: Place) -> f32 {
    let scales = unpack2x16float(word);
    return select(scales.x, scales.y, at.second == 1u);
}

fn to_vector(e: Eight, n: u32) -> vec4<u32> { return vec4<u32>(e.codes, bitcast<u32>(e.scale), 0u, 0u); }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight { return Eight(a.x, bitcast<f32>(a.y)); }

fn floats(e: Eight) -> mat2x4<f32> {
    let low = vec4<f32>(unpack4xU8(e.codes & 0x0f0f0f0fu)) - 8.0;
    let high = vec4<f32>(unpack4xU8((e.codes >> 4u) & 0x0f0f0f0fu)) - 8.0;
    return mat2x4<f32>(low * e.scale, high * e.scale);
}
