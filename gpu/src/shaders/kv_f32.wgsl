// Keys and values as f32: [slot][KV head][offset in the page][dimension], eight elements per matrix.
@group(0) @binding(2) var<storage, read> keys: array<mat2x4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<mat2x4<f32>>;

// Eight elements as they are stored, and the number of vectors that they take in workgroup memory.
alias Eight = mat2x4<f32>;
const EIGHT_VECTORS: u32 = 2u;

fn load_key(i: u32) -> Eight { return keys[i]; }
fn load_value(i: u32) -> Eight { return values[i]; }
fn or_zeros(e: Eight, seen: bool) -> Eight {
    let zero = vec4<f32>(0.0);
    return mat2x4<f32>(select(zero, e[0], seen), select(zero, e[1], seen));
}
fn to_vector(e: Eight, n: u32) -> vec4<u32> { return bitcast<vec4<u32>>(select(e[1], e[0], n == 0u)); }
fn from_vectors(a: vec4<u32>, b: vec4<u32>) -> Eight {
    return mat2x4<f32>(bitcast<vec4<f32>>(a), bitcast<vec4<f32>>(b));
}
fn floats(e: Eight) -> mat2x4<f32> { return e; }
