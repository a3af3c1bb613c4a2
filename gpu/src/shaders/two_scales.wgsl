// Blocks of 32 weights with a scale and an offset for each half: (scale, scale, offset, offset). Packets are whole blocks.
alias Scale = vec4<f32>;
const BLOCK_SCALES: u32 = 2u;
// Which of a block's scales codes 4j to 4j+3 of a packet have.
fn scale_part(j: u32) -> u32 { return j >> 2u; }
fn scale_at(s: Scale, part: u32) -> f32 { return select(s.x, s.y, part == 1u); }
fn offset_at(s: Scale, part: u32) -> f32 { return select(s.z, s.w, part == 1u); }
// Weights of codes 4j to 4j+3 of a packet.
fn scaled(value: vec4<f32>, s: Scale, j: u32) -> vec4<f32> {
    let weights = value * scale_at(s, scale_part(j));
    if (OFFSETS) { return weights + offset_at(s, scale_part(j)); }
    return weights;
}
