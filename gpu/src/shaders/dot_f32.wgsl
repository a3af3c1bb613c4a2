// Products of weights with float activations, [rows, K].
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

// They are there already.
fn prepare(lane: u32) {}

// What NR packets of weights add to the sums of ROWS rows: acc[n * ROWS + r]. Packet p of K; `s` are scales and offsets.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<vec4<u32>, NR>, s: array<vec2<f32>, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var dots = array<f32, NR>();
        var sum = 0.0;
        for (var j = 0u; j < PACKET / 4u; j++) {
            let v = x[(r * K + p * PACKET) / 4u + j];
            sum += dot(v, vec4<f32>(1.0));
            for (var n = 0u; n < NR; n++) { dots[n] += dot(decode(w[n], j), v); }
        }
        for (var n = 0u; n < NR; n++) { (*acc)[n * ROWS + r] += s[n].x * dots[n] + s[n].y * sum; }
    }
}
