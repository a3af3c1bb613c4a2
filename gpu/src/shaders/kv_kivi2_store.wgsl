// Stores elements 2i and 2i+1 of the newest tokens' keys, or of their values, as f16. They are behind the sealed pages.
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;
fn store_key(i: u32, v: vec2<f32>) { keys[SEALED_PAGES * KEY_PAGE + i] = pack2x16float(v); }
fn store_value(i: u32, v: vec2<f32>) { values[SEALED_PAGES * VALUE_PAGE + i] = pack2x16float(v); }
