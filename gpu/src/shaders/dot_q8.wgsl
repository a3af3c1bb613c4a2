// Products of weight codes with 8-bit activations, [rows, K], four at a time. The part `rows_*` defines which rows.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
// Scale and sum of each block of 32 activations.
@group(0) @binding(2) var<storage, read> x_scales: array<vec2<f32>>;

// Nothing to prepare: the activations are in memory.
fn prepare(lane: u32) {}

// Activations 16i to 16i+15.
fn codes16(i: u32) -> vec4<u32> { return x[input_at(i, K / 16u)]; }
// Scale and sum of a block of 32.
fn code_block(i: u32) -> vec2<f32> { return x_scales[input_at(i, K / 32u)]; }
