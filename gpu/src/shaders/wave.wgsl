// The description of a wave: a header, then eight words for each index, one of each of eight lists. Six lists are indexed
// by row, one by row of logits, one by tile. `WaveData` in wave_upload.rs writes it.
@group(0) @binding(0) var<storage, read> wave: array<u32>;

const WAVE_HEADER: u32 = 16u;
// Flag in a token's word: the id is in `sampled`, at the index in the lower bits.
const DEVICE_TOKEN: u32 = 0x80000000u;

fn wave_rows() -> u32 { return wave[0]; }
fn wave_logit_rows() -> u32 { return wave[1]; }
// Splits of each row's context.
fn wave_splits() -> u32 { return wave[2]; }
fn wave_tiles() -> u32 { return wave[3]; }
fn row_token(row: u32) -> u32 { return wave[WAVE_HEADER + 8u * row]; }
fn row_position(row: u32) -> u32 { return wave[WAVE_HEADER + 8u * row + 1u]; }
// Slot of the row's key and value in the KV cache of a class of layers, 0 or 1: page slot * PAGE + offset.
fn row_kv(row: u32, class_index: u32) -> u32 { return wave[WAVE_HEADER + 8u * row + 2u + 5u * class_index]; }
// Start of the row's block table among the tables of a class.
fn row_table(row: u32) -> u32 { return wave[WAVE_HEADER + 8u * row + 3u]; }
// The row of the wave that a row of logits belongs to.
fn logit_row(index: u32) -> u32 { return wave[WAVE_HEADER + 8u * index + 4u]; }
// A tile, adjacent rows of one session at adjacent positions: the first row and the number of rows.
fn row_tile(index: u32) -> vec2<u32> {
    let tile = wave[WAVE_HEADER + 8u * index + 5u];
    return vec2<u32>(tile >> 8u, tile & 255u);
}
// Last position that the row attends to.
fn row_seen(row: u32) -> u32 { return wave[WAVE_HEADER + 8u * row + 6u]; }
