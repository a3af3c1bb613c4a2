// Keys and values as bfloat16: [slot][KV head][offset in the page][dimension], eight elements per vector.
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;

// Eight elements as they are stored, and the number of vectors that they take in workgroup memory.
alias Eight = vec4<u32>;
const EIGHT_VECTORS: u32 = 1u;

fn load_key(i: u32) -> Eight { return keys[i]; }
fn load_value(i: u32) -> Eight { return values[i]; }
fn or_zeros(e: Eight, seen: bool) -> Eight { return select(vec4<u32>(0u), e, seen); }
fn to_vector(e: Eight, n: u32) -> vec4<u32> { return e; }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight { return a; }

fn floats(w: Eight) -> mat2x4<f32> {
    let low = bitcast<vec4<f32>>(w << vec4<u32>(16u));
    let high = bitcast<vec4<f32>>(w & vec4<u32>(0xffff0000u));
    return mat2x4<f32>(vec4<f32>(low.x, high.x, low.y, high.y), vec4<f32>(low.z, high.z, low.w, high.w));
}
