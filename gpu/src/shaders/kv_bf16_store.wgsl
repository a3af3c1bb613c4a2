// Stores elements 2i and 2i+1 of the keys, or of the values, as bfloat16.
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

// Rounds to the nearest bfloat16, ties to even.
fn pack_bf16(v: vec2<f32>) -> u32 {
    let bits = bitcast<vec2<u32>>(v);
    let rounded = bits + 0x7fffu + ((bits >> vec2<u32>(16u)) & vec2<u32>(1u));
    return (rounded.x >> 16u) | (rounded.y & 0xffff0000u);
}
fn store_key(i: u32, v: vec2<f32>) { keys[i] = pack_bf16(v); }
fn store_value(i: u32, v: vec2<f32>) { values[i] = pack_bf16(v); }
