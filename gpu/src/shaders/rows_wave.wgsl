// Rows of a product with few rows: the wave's, and all of the matrix for each of them.

// Whether workgroups at z have anything to do.
fn enter(z: u32) -> bool { return true; }
// Where the matrix begins, in rows of weights.
fn weight_base() -> u32 { return 0u; }
// Rows that there are, of ROWS.
fn live_rows(z: u32) -> u32 { return min(wave[ROW_COUNT], ROWS); }
fn output_row(z: u32, r: u32) -> u32 { return r; }
// Where element i of ROWS rows of `width` is.
fn input_at(i: u32, width: u32) -> u32 { return i; }
