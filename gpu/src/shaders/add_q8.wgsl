// What NR packets of weight codes add to the sums of ROWS rows of 8-bit activations: acc[n * ROWS + r]. Packet p of K; `s` are the
// scales of the packets' blocks. `codes16` of the part `dot_*` reads sixteen activations, `code_block` the scale and the sum of a
// block of 32. Layouts with offsets have packets of whole blocks, so the block's sum is the packet's.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<Packet, NR>, s: array<Scale, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var v: array<vec4<u32>, PACKET / 16u>;
        for (var i = 0u; i < PACKET / 16u; i++) { v[i] = codes16((r * K + p * PACKET) / 16u + i); }
        let x = code_block((r * K + p * PACKET) / 32u);
        // What offsets are multiplied by.
        var ones = array<f32, BLOCK_SCALES>();
        ones[BLOCK_SCALES - 1u] = x.y;
        if (OFFSETS && BLOCK_SCALES == 2u) {
            var half = 0i;
            for (var j = 0u; j < 4u; j++) { half += dot4I8Packed(v[0][j], 0x01010101u); }
            ones[0] = x.x * f32(half);
            ones[BLOCK_SCALES - 1u] = x.y - ones[0];
        }
        for (var n = 0u; n < NR; n++) {
            var dots = array<i32, BLOCK_SCALES>();
            for (var j = 0u; j < PACKET / 4u; j++) {
                dots[scale_part(j)] += dot4I8Packed(codes4(w[n], j), v[j / 4u][j % 4u]);
            }
            for (var part = 0u; part < BLOCK_SCALES; part++) {
                var sum = scale_at(s[n], part) * x.x * f32(dots[part]);
                if (OFFSETS) { sum += offset_at(s[n], part) * ones[part]; }
                (*acc)[n * ROWS + r] += sum;
            }
        }
    }
}
