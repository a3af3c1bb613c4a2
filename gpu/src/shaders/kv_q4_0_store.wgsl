// Codes and scales of `heads_blocks.wgsl`: codes of 4 bits from -8 to 7, stored plus 8. A byte has elements i and i + 4
// of a word's eight. The element with the largest magnitude takes the sign that has 8 codes, so that a scale may be
// negative. A somewhat smaller scale, which limits large elements, often has less error in all. Each of three divisors
// of the largest element gives candidate codes q. Their best scale is sum(x q) / sum(q q), which leaves the error
// sum(x x) - sum(x q)^2 / sum(q q). The scale with the least error is taken.

// Elements whose codes are one word.
const WORD: u32 = 8u;

fn nearest_codes(v: vec4<f32>) -> vec4<f32> { return round(clamp(v, vec4<f32>(-8.0), vec4<f32>(7.0))); }

// The scale of a block, of which each of eight neighbouring lanes has four elements. For uniform control flow.
fn block_scale(lane: u32, v: vec4<f32>) -> f32 {
    let highest = max8(lane, max(max(v.x, v.y), max(v.z, v.w)));
    let lowest = max8(lane, -min(min(v.x, v.y), min(v.z, v.w)));
    let largest = max(highest, lowest);
    let way = select(-1.0, 1.0, highest == largest);
    // Relative to the largest magnitude, so that no square overflows or vanishes.
    let unit = select(v / largest, vec4<f32>(0.0), vec4<bool>(largest == 0.0));
    var best = 0.0;
    var scale = 0.0;
    for (var n = 0u; n < 3u; n++) {
        let divisor = select(select(-9.75, -8.5, n == 1u), -7.8, n == 0u);
        let q = nearest_codes(unit * (divisor * way));
        let products = sum8(lane, dot(unit, q));
        let squares = sum8(lane, dot(q, q));
        let gain = products * products / max(squares, 1.0);
        if (gain > best) {
            best = gain;
            scale = products / squares;
        }
    }
    return scale * largest;
}

// Codes of the elements of `head` from `i` on.
fn code_word(i: u32, scale: f32) -> u32 {
    let low = vec4<f32>(head[i], head[i + 1u], head[i + 2u], head[i + 3u]) / scale;
    let high = vec4<f32>(head[i + 4u], head[i + 5u], head[i + 6u], head[i + 7u]) / scale;
    let a = vec4<u32>(vec4<i32>(nearest_codes(low)) + vec4<i32>(8));
    let b = vec4<u32>(vec4<i32>(nearest_codes(high)) + vec4<i32>(8));
    return pack4xU8(a | (b << vec4<u32>(4u)));
}
