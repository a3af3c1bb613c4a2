// Blocks of 32 weights with one scale and one offset: weight = scale * code + offset.
alias Scale = vec2<f32>;
const BLOCK_SCALES: u32 = 1u;
// Groups of four codes in a packet that share a scale.
const SCALE_GROUPS: u32 = PACKET / 4u;
fn scale_at(s: Scale, part: u32) -> f32 { return s.x; }
fn offset_at(s: Scale, part: u32) -> f32 { return s.y; }
// Weights of codes 4j to 4j+3 of a packet.
fn scaled(value: vec4<f32>, s: Scale, j: u32) -> vec4<f32> { return value * s.x + s.y; }
