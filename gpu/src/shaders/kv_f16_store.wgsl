// Stores elements 2i and 2i+1 of the keys, or of the values, as f16.
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;
fn store_key(i: u32, v: vec2<f32>) { keys[i] = pack2x16float(v); }
fn store_value(i: u32, v: vec2<f32>) { values[i] = pack2x16float(v); }
