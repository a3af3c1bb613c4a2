// Blocks of 32 weights with a scale and an offset for each half: (scale, scale, offset, offset). Packets are whole blocks.
alias Scale = vec4<f32>;
const BLOCK_SCALES: u32 = 2u;
// Groups of four codes in a packet that share a scale.
const SCALE_GROUPS: u32 = PACKET / 8u;
fn scale_at(s: Scale, part: u32) -> f32 { return select(s.x, s.y, part == 1u); }
fn offset_at(s: Scale, part: u32) -> f32 { return select(s.z, s.w, part == 1u); }
// Weights of codes 4j to 4j+3 of a packet.
fn scaled(value: vec4<f32>, s: Scale, j: u32) -> vec4<f32> {
    let weights = value * scale_at(s, j / SCALE_GROUPS);
    if (OFFSETS) { return weights + offset_at(s, j / SCALE_GROUPS); }
    return weights;
}
