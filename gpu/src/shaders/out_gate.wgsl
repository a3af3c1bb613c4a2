// Turns the sums of gate and up into activations for the next product: gate_of(gate) * up.
fn finish(lane: u32, first: u32, z: u32) {
    let rows = live_rows(z);
    for (var r = 0u; r < rows; r++) {
        let column = 4u * lane;
        let valid = column < TILE && first + column < COLUMNS;
        var gate = vec4<f32>(0.0);
        var up = vec4<f32>(0.0);
        if (valid) {
            for (var i = 0u; i < 4u; i++) {
                gate[i] = tile_sum(0u, column + i, r);
                up[i] = tile_sum(1u, column + i, r);
            }
        }
        store_act(lane, output_row(z, r), first / 4u + lane, gate_of(gate) * up, valid);
    }
}
