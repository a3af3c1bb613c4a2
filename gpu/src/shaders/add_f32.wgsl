// What NR packets of weights add to the sums of ROWS rows of float activations: acc[n * ROWS + r]. Packet p of K; `s` are the
// scales of the packets' blocks. `floats4` of the part `dot_*` reads four activations.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<Packet, NR>, s: array<Scale, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var dots = array<f32, NR * BLOCK_SCALES>();
        // What offsets are multiplied by.
        var ones = array<f32, BLOCK_SCALES>();
        for (var j = 0u; j < PACKET / 4u; j++) {
            let v = floats4((r * K + p * PACKET) / 4u + j);
            if (OFFSETS) { ones[scale_part(j)] += dot(v, vec4<f32>(1.0)); }
            for (var n = 0u; n < NR; n++) { dots[n * BLOCK_SCALES + scale_part(j)] += dot(decode(w[n], j), v); }
        }
        for (var n = 0u; n < NR; n++) {
            for (var part = 0u; part < BLOCK_SCALES; part++) {
                var sum = scale_at(s[n], part) * dots[n * BLOCK_SCALES + part];
                if (OFFSETS) { sum += offset_at(s[n], part) * ones[part]; }
                (*acc)[n * ROWS + r] += sum;
            }
        }
    }
}
