// Rows that a product has stored.
@group(0) @binding(1) var<storage, read> delta_rows: array<vec4<f32>>;
fn delta(row: u32, i: u32) -> vec4<f32> { return delta_rows[row * (WIDTH / 4u) + i]; }
