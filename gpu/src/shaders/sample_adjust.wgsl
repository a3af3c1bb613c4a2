// Logit bias, then penalties, in place. A workgroup per row, a lane per adjustment. All adjustments of a row have
// different tokens. Infinities are written as bits, since float arithmetic need not preserve them.
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;

struct Adjustment {
    token: u32,
    // Number of occurrences in the penalty window.
    count: u32,
    // Bits of the bias that is added to the logit.
    bias: u32,
}
@group(0) @binding(3) var<storage, read> adjustments: array<Adjustment>;

const INFINITY_BITS: u32 = 0x7f800000u;
const NEGATIVE_INFINITY_BITS: u32 = 0xff800000u;

fn adjusted(bits: u32, change: Adjustment, row: SampleRow) -> u32 {
    let nan = (bits & 0x7fffffffu) > INFINITY_BITS;
    if (nan || bits == NEGATIVE_INFINITY_BITS) { return bits; }
    if (change.bias == NEGATIVE_INFINITY_BITS) { return NEGATIVE_INFINITY_BITS; }
    if (bits == INFINITY_BITS || change.bias == INFINITY_BITS) { return INFINITY_BITS; }
    var logit = bitcast<f32>(bits) + bitcast<f32>(change.bias);
    if (change.count > 0u) {
        logit = select(logit / row.repetition, logit * row.repetition, logit <= 0.0);
        logit -= f32(change.count) * row.frequency + row.presence;
    }
    return bitcast<u32>(logit);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (group.x >= wave_logit_rows()) { return; }
    let row = sample_rows[group.x];
    for (var i = lane; i < row.count; i += WG) {
        let change = adjustments[row.first + i];
        if (change.token < VOCABULARY) {
            let at = group.x * VOCABULARY + change.token;
            logits[at] = adjusted(logits[at], change, row);
        }
    }
}
