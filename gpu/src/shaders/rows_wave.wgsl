// Rows of a product with few rows: those of the wave, each with the whole matrix.

// Returns true if workgroups at z have work to do.
fn enter(z: u32) -> bool { return true; }
// First weight row of the matrix.
fn weight_base() -> u32 { return 0u; }
// Number of rows in use, out of ROWS.
fn live_rows(z: u32) -> u32 { return min(wave[ROW_COUNT], ROWS); }
fn output_row(z: u32, r: u32) -> u32 { return r; }
// Index of element i of ROWS rows of `width`.
fn input_at(i: u32, width: u32) -> u32 { return i; }
