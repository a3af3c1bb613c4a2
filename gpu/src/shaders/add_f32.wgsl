// What NR packets of weights add to the sums of ROWS rows of float activations: acc[n * ROWS + r]. Packet p of K; `s` are the
// scales of the packets' blocks. `floats4` of the part `dot_*` reads four activations.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<Packet, NR>, s: array<Scale, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        for (var part = 0u; part < BLOCK_SCALES; part++) {
            var dots = array<f32, NR>();
            // What offsets are multiplied by.
            var ones = 0.0;
            for (var i = 0u; i < SCALE_GROUPS; i++) {
                let j = part * SCALE_GROUPS + i;
                let v = floats4((r * K + p * PACKET) / 4u + j);
                if (OFFSETS) { ones += dot(v, vec4<f32>(1.0)); }
                for (var n = 0u; n < NR; n++) { dots[n] += dot(decode(w[n], j), v); }
            }
            for (var n = 0u; n < NR; n++) {
                var sum = scale_at(s[n], part) * dots[n];
                if (OFFSETS) { sum += offset_at(s[n], part) * ones; }
                (*acc)[n * ROWS + r] += sum;
            }
        }
    }
}
