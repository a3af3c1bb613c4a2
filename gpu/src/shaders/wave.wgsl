// What a wave tells kernels: a header, then seven words for each index, of seven lists: those of the rows,
// and two of their own. `WaveData` in wave_upload.rs writes it.
@group(0) @binding(0) var<storage, read> wave: array<u32>;

const WAVE_HEADER: u32 = 16u;
// In place of a token's id: the id is in `sampled`, at the index in the lower bits.
const DEVICE_TOKEN: u32 = 0x80000000u;

fn wave_rows() -> u32 { return wave[0]; }
fn wave_logit_rows() -> u32 { return wave[1]; }
// Parts that each row's context is split into.
fn wave_splits() -> u32 { return wave[2]; }
fn wave_tiles() -> u32 { return wave[3]; }
fn row_token(row: u32) -> u32 { return wave[WAVE_HEADER + 7u * row]; }
fn row_position(row: u32) -> u32 { return wave[WAVE_HEADER + 7u * row + 1u]; }
// Place of the row's key and value in the KV cache: slot * PAGE + offset.
fn row_kv(row: u32) -> u32 { return wave[WAVE_HEADER + 7u * row + 2u]; }
// Where the row's block table starts in `tables`.
fn row_table(row: u32) -> u32 { return wave[WAVE_HEADER + 7u * row + 3u]; }
// The row that a row of logits belongs to.
fn logit_row(index: u32) -> u32 { return wave[WAVE_HEADER + 7u * index + 4u]; }
// Neighbouring rows of one session, at neighbouring positions: the first and how many.
fn row_tile(index: u32) -> vec2<u32> {
    let tile = wave[WAVE_HEADER + 7u * index + 5u];
    return vec2<u32>(tile >> 8u, tile & 255u);
}
// Last position that the row sees.
fn row_seen(row: u32) -> u32 { return wave[WAVE_HEADER + 7u * row + 6u]; }
