// Adds the products of NR packets of weights with ROWS rows of f32 activations to acc[n * ROWS + r]. The packets are at
// position p of K; `s` contains the scales of their blocks. `floats4` of the part `dot_*` loads four activations.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<Packet, NR>, s: array<Scale, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        for (var part = 0u; part < BLOCK_SCALES; part++) {
            var dots = array<f32, NR>();
            // Factor of the offsets.
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
