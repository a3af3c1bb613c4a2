// LoRA adapters of one product: the adapter and scale that each row uses, and the matrices of all adapters for this
// product.
@group(0) @binding(2) var<storage, read> used: array<vec2<u32>>;
// First word: ranks of a row of `low`. Then six words for each of the PAIRS pairs of each adapter. Then the bits of
// floats: A as stored, B by columns.
@group(0) @binding(3) var<storage, read> adapters: array<u32>;

const NO_ADAPTER: u32 = 0xffffffffu;

// The adapter of a row, or NO_ADAPTER, and the bits of its scale.
fn adapter_of(row: u32) -> vec2<u32> { return used[ROWS_AT + row]; }
fn low_stride() -> u32 { return adapters[0]; }
// Index of the words of a pair.
fn pair_at(adapter: u32, pair: u32) -> u32 { return 1u + 6u * (adapter * PAIRS + pair); }
fn pair_down(at: u32) -> u32 { return adapters[at]; }
fn pair_up(at: u32) -> u32 { return adapters[at + 1u]; }
// Rank of a pair; 0 if the adapter has no such pair.
fn pair_rank(at: u32) -> u32 { return adapters[at + 2u]; }
fn pair_first(at: u32) -> u32 { return adapters[at + 3u]; }
fn pair_outputs(at: u32) -> u32 { return adapters[at + 4u]; }
fn pair_scale(at: u32) -> f32 { return bitcast<f32>(adapters[at + 5u]); }
fn weight_at(at: u32) -> f32 { return bitcast<f32>(adapters[at]); }
