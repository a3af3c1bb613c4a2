// Rotation of heads, for KV formats of few bits. Some elements of a key or value are far larger than the others, and
// reduce the resolution of all elements that share their scale. Sylvester's Hadamard matrix over the root of its order
// is orthogonal and symmetric: rotated queries have the same products with rotated keys, and the same rotation turns
// the sum of rotated values back. Its order is the largest power of two that divides a head's length. Heads that are
// not a multiple of 16 are not rotated. ROTATED is the number of floats in `head`.
var<workgroup> head: array<f32, ROTATED>;

// Rotates the first `count` floats of `head`, which are heads of `length` elements.
fn hadamard(lane: u32, count: u32, length: u32) {
    let order = length & (~length + 1u);
    if (order >= 16u) {
        for (var reach = 1u; reach < order; reach *= 2u) {
            let by = select(1.0, inverseSqrt(f32(order)), reach == 1u);
            workgroupBarrier();
            for (var i = lane; i < count / 2u; i += WG) {
                let at = (i / reach) * 2u * reach + i % reach;
                let a = head[at] * by;
                let b = head[at + reach] * by;
                head[at] = a + b;
                head[at + reach] = a - b;
            }
        }
    }
    workgroupBarrier();
}
