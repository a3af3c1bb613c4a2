// Embedding: hidden[row] = weights[token] * SCALE. Rows have K elements. This segment of the matrix contains rows
// ROW_BASE to ROW_BASE + N.
@group(0) @binding(1) var<storage, read> sampled: array<u32>;
@group(0) @binding(2) var<storage, read_write> hidden: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var token = row_token(row);
    if ((token & DEVICE_TOKEN) != 0u) { token = min(sampled[token & ~DEVICE_TOKEN], VOCABULARY - 1u); }
    if (token < ROW_BASE || token >= ROW_BASE + N) { return; }
    let weight_row = token - ROW_BASE;
    for (var p = lane; p < K / PACKET; p += WG) {
        let w = load_packet(weight_row * (K / PACKET) + p);
        let s = scale_of((weight_row * K + p * PACKET) / 32u);
        for (var j = 0u; j < PACKET / 4u; j++) {
            hidden[(row * K + p * PACKET) / 4u + j] = scaled(decode(w, j), s, j) * SCALE;
        }
    }
}
