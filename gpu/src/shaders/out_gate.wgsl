// SwiGLU (arXiv 2002.05202): sums of gate and up become activations for the next product.
fn gate_of(gate: f32) -> f32 { return gate / (1.0 + exp(-gate)); }
fn finish(lane: u32, first: u32) {
    let rows = min(wave[ROW_COUNT], ROWS);
    for (var r = 0u; r < rows; r++) {
        let column = 4u * lane;
        let valid = column < TILE && first + column < COLUMNS;
        var value = vec4<f32>(0.0);
        if (valid) {
            for (var i = 0u; i < 4u; i++) { value[i] = gate_of(tile_sum(0u, column + i, r)) * tile_sum(1u, column + i, r); }
        }
        store_act(lane, r, first / 4u + lane, value, valid);
    }
}
