// Adds the products of NR packets of weight codes with ROWS rows of 8-bit activations to acc[n * ROWS + r]. The packets
// are at position p of K; `s` contains the scales of their blocks. Of the part `dot_*`, `codes16` loads sixteen
// activations and `code_block` the scale and sum of a block of 32. Layouts with offsets have packets of whole blocks,
// so that the block's sum is the packet's.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<Packet, NR>, s: array<Scale, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var v: array<vec4<u32>, PACKET / 16u>;
        for (var i = 0u; i < PACKET / 16u; i++) { v[i] = codes16((r * K + p * PACKET) / 16u + i); }
        let x = code_block((r * K + p * PACKET) / 32u);
        // Factor of the first scale's offset; the rest is the second one's.
        var ones = x.y;
        if (OFFSETS && BLOCK_SCALES == 2u) {
            var half = 0i;
            for (var j = 0u; j < 4u; j++) { half += dot4I8Packed(v[0][j], 0x01010101u); }
            ones = x.x * f32(half);
        }
        for (var n = 0u; n < NR; n++) {
            for (var part = 0u; part < BLOCK_SCALES; part++) {
                var codes = 0i;
                for (var i = 0u; i < SCALE_GROUPS; i++) {
                    let j = part * SCALE_GROUPS + i;
                    codes += dot4I8Packed(codes4(w[n], j), v[j / 4u][j % 4u]);
                }
                var sum = scale_at(s[n], part) * x.x * f32(codes);
                if (OFFSETS) { sum += offset_at(s[n], part) * select(ones, x.y - ones, part == 1u); }
                (*acc)[n * ROWS + r] += sum;
            }
        }
    }
}
