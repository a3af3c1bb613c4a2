// Output of sampling: tokens for the host, by row, and for the next step's embedding.
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> sampled: array<u32>;

// Stored instead of a token if a row has no token to choose.
const NO_TOKEN: u32 = 0xffffffffu;

fn store_token(row: u32, token: u32) {
    ids[row] = token;
    let place = sample_rows[row].place;
    if (place < arrayLength(&sampled)) { sampled[place] = select(token, 0u, token == NO_TOKEN); }
}
