// Keys and values of 16 bits each: [slot][KV head][offset in the page][dimension], eight elements per vector. `floats` says
// which kind they are.
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
