// Products of weight codes with activations of 8 bits, [rows, K], four at a time.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
// Scale and sum of each block of 32 activations.
@group(0) @binding(2) var<storage, read> x_scales: array<vec2<f32>>;

// They are there already.
fn prepare(lane: u32) {}

// What NR packets of weights add to the sums of ROWS rows: acc[n * ROWS + r]. Packet p of K; `s` are scales and offsets.
// Layouts with an offset have packets of whole blocks, so the block's sum is the packet's.
fn add_packets(acc: ptr<function, array<f32, SUMS>>, w: array<vec4<u32>, NR>, s: array<vec2<f32>, NR>, p: u32) {
    for (var r = 0u; r < ROWS; r++) {
        var v: array<vec4<u32>, PACKET / 16u>;
        for (var i = 0u; i < PACKET / 16u; i++) { v[i] = x[(r * K + p * PACKET) / 16u + i]; }
        let scale = x_scales[(r * K + p * PACKET) / 32u];
        for (var n = 0u; n < NR; n++) {
            var sum = 0i;
            for (var j = 0u; j < PACKET / 4u; j++) {
                sum += dot4I8Packed(codes4(w[n], j), v[j / 4u][j % 4u]);
            }
            (*acc)[n * ROWS + r] += s[n].x * scale.x * f32(sum) + s[n].y * scale.y;
        }
    }
}
