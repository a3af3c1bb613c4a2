// The sums are columns, from ROW_BASE on, of queries, keys and values side by side. Adjacent elements of a head are
// rotated as pairs, and stored by `rope_pairs.wgsl`. A tile has an even number of columns.
fn finish(lane: u32, first: u32, z: u32) {
    let rows = live_rows(z);
    for (var i = lane; i < (TILE / 2u) * rows; i += WG) {
        let r = i / (TILE / 2u);
        let column = 2u * (i % (TILE / 2u));
        let e = ROW_BASE + first + column;
        if (first + column < COLUMNS) {
            let pair = vec2<f32>(tile_sum(0u, column, r), tile_sum(0u, column + 1u, r));
            store_pair(r, e, turn_neighbours(pair, e, row_position(r)));
        }
    }
}
