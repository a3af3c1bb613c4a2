// Stores elements 2i and 2i+1 of the keys, or of the values, as f32.
@group(0) @binding(7) var<storage, read_write> keys: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> values: array<vec2<f32>>;
fn store_key(i: u32, v: vec2<f32>) { keys[i] = v; }
fn store_value(i: u32, v: vec2<f32>) { values[i] = v; }
