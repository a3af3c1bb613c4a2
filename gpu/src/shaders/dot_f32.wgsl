// Products of weights with f32 activations, [rows, K]. The part `rows_*` defines which rows.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

// Nothing to prepare: the activations are in memory.
fn prepare(lane: u32) {}

// Activations 4i to 4i+3.
fn floats4(i: u32) -> vec4<f32> { return x[input_at(i, K / 4u)]; }
