// Stores the sums: floats, [rows, OUT_STRIDE], from column ROW_BASE of this segment on.
@group(0) @binding(30) var<storage, read_write> out: array<f32>;
fn finish(lane: u32, first: u32, z: u32) {
    let rows = live_rows(z);
    for (var i = lane; i < TILE * rows; i += WG) {
        let column = first + i % TILE;
        if (column < COLUMNS) { out[output_row(z, i / TILE) * OUT_STRIDE + ROW_BASE + column] = tile_sum(0u, i % TILE, i / TILE); }
    }
}
