// Rows of a product with experts, up to ROWS that have the same expert. z is a tile of the list that `group_pairs`
// makes. This matrix contains HELD experts from FIRST on, N weight rows each. SHARE adjacent pairs have the same input
// row.
@group(0) @binding(3) var<storage, read> groups: array<u32>;
var<private> first_weight: u32;
var<private> input_rows: array<u32, ROWS>;

// The pair at an index of the list.
fn pair_at(place: u32) -> u32 { return groups[2u * TILES + place]; }

fn enter(z: u32) -> bool {
    let count = live_rows(z);
    let expert = groups[2u * z] >> 8u;
    if (count == 0u || expert < FIRST || expert >= FIRST + HELD) { return false; }
    first_weight = (expert - FIRST) * N;
    // Rows beyond the last one repeat it.
    for (var r = 0u; r < ROWS; r++) { input_rows[r] = output_row(z, min(r, count - 1u)) / SHARE; }
    return true;
}
fn weight_base() -> u32 { return first_weight; }
fn live_rows(z: u32) -> u32 { return min(groups[2u * z] & 255u, ROWS); }
fn output_row(z: u32, r: u32) -> u32 { return pair_at(groups[2u * z + 1u] + r); }
fn input_at(i: u32, width: u32) -> u32 { return input_rows[i / width] * width + i % width; }
