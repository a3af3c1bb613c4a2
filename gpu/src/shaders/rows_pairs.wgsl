// Rows of a product with experts, each on its own. z is a pair of a row and one of its USED experts. This matrix
// contains HELD experts from FIRST on, N weight rows each. SHARE adjacent pairs have the same input row.
@group(0) @binding(3) var<storage, read> routes: array<vec2<u32>>;
var<private> first_weight: u32;
var<private> input_row: u32;

fn enter(z: u32) -> bool {
    let expert = routes[z].x;
    first_weight = (expert - FIRST) * N;
    input_row = z / SHARE;
    return expert >= FIRST && expert < FIRST + HELD;
}
fn weight_base() -> u32 { return first_weight; }
fn live_rows(z: u32) -> u32 { return 1u; }
fn output_row(z: u32, r: u32) -> u32 { return z; }
fn input_at(i: u32, width: u32) -> u32 { return input_row * width + i; }
