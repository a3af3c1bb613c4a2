// Keys and values as f16: [slot][KV head][offset in the page][dimension], eight elements per vector.
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
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
        vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
    );
}
