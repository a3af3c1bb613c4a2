// Codes and scales of `heads_blocks.wgsl`: signed bytes. The scale is the largest magnitude of a block / 127.

// Elements whose codes are one word.
const WORD: u32 = 4u;

// The scale of a block, of which each of eight neighbouring lanes has four elements. For uniform control flow.
fn block_scale(lane: u32, v: vec4<f32>) -> f32 {
    let a = abs(v);
    return max8(lane, max(max(a.x, a.y), max(a.z, a.w))) / 127.0;
}

// Codes of the elements of `head` from `i` on.
fn code_word(i: u32, scale: f32) -> u32 {
    let v = vec4<f32>(head[i], head[i + 1u], head[i + 2u], head[i + 3u]) / scale;
    return pack4xI8(vec4<i32>(round(clamp(v, vec4<f32>(-127.0), vec4<f32>(127.0)))));
}
