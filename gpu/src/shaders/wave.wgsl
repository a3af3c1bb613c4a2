// The description of a wave: a header, then ten words for each index, one of each of ten lists. Eight lists are indexed
// by row, one by row of logits, one by tile. `WaveData` in wave_upload.rs writes it.
@group(0) @binding(0) var<storage, read> wave: array<u32>;

const WAVE_HEADER: u32 = 16u;
const WAVE_LISTS: u32 = 10u;
// Flag in a token's word: the id is in `sampled`, at the index in the lower bits.
const DEVICE_TOKEN: u32 = 0x80000000u;

fn wave_rows() -> u32 { return wave[0]; }
fn wave_logit_rows() -> u32 { return wave[1]; }
// Splits of each row's context.
fn wave_splits() -> u32 { return wave[2]; }
fn wave_tiles() -> u32 { return wave[3]; }
fn row_token(row: u32) -> u32 { return wave[WAVE_HEADER + WAVE_LISTS * row]; }
fn row_position(row: u32) -> u32 { return wave[WAVE_HEADER + WAVE_LISTS * row + 1u]; }
// Slot of the row's key and value in the KV cache of a class of layers, 0 to 3: page slot * PAGE + offset.
fn row_kv(row: u32, class_index: u32) -> u32 {
    return wave[WAVE_HEADER + WAVE_LISTS * row + select(6u + class_index, 2u, class_index == 0u)];
}
// Start of the row's block table among the tables of a class.
fn row_table(row: u32) -> u32 { return wave[WAVE_HEADER + WAVE_LISTS * row + 3u]; }
// The row of the wave that a row of logits belongs to.
fn logit_row(index: u32) -> u32 { return wave[WAVE_HEADER + WAVE_LISTS * index + 4u]; }
// A tile, adjacent rows of one session at adjacent positions: the first row and the number of rows.
fn row_tile(index: u32) -> vec2<u32> {
    let tile = wave[WAVE_HEADER + WAVE_LISTS * index + 5u];
    return vec2<u32>(tile >> 8u, tile & 255u);
}
// Last position that the row attends to.
fn row_seen(row: u32) -> u32 { return wave[WAVE_HEADER + WAVE_LISTS * row + 6u]; }
