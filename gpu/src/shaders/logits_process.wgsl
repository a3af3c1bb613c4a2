// Runs a caller's function `process` over rows of logits, [rows, VOCABULARY], in place. One invocation per logit. The
// caller's text defines `fn process(row: u32, token: u32, logit: f32) -> f32` and may call the functions below.
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read> row_words: array<u32>;
@group(0) @binding(3) var<storage, read> data_words: array<u32>;

// What `process` returns to forbid a token: the lowest finite float. WGSL cannot write -inf.
const FORBIDDEN: f32 = -0x1.fffffep+127f;
const NEGATIVE_INFINITY_BITS: u32 = 0xff800000u;

// Word `index` of the row's ROW_WORDS words; 0 past their end.
fn row_data(row: u32, index: u32) -> u32 {
    let at = row * ROW_WORDS + index;
    if (index >= ROW_WORDS || at >= arrayLength(&row_words)) { return 0u; }
    return row_words[at];
}

fn row_data_f32(row: u32, index: u32) -> f32 { return bitcast<f32>(row_data(row, index)); }

// Word `index` of the words for all rows; 0 past their end.
fn data(index: u32) -> u32 {
    if (index >= arrayLength(&data_words)) { return 0u; }
    return data_words[index];
}

fn data_f32(index: u32) -> f32 { return bitcast<f32>(data(index)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let token = group.x * WG + lane;
    if (token >= VOCABULARY || row >= wave_logit_rows()) { return; }
    let at = row * VOCABULARY + token;
    let bits = logits[at];
    // A forbidden token stays forbidden.
    if (bits == NEGATIVE_INFINITY_BITS) { return; }
    let logit = process(row, token, bitcast<f32>(bits));
    // Written as bits, since float arithmetic need not preserve infinities.
    logits[at] = select(bitcast<u32>(logit), NEGATIVE_INFINITY_BITS, logit <= FORBIDDEN);
}
