// Forbids tokens: a logit of [rows, VOCABULARY] becomes -inf where its bit of the mask is 0. One invocation per logit.
// A row of the mask has MASK_WORDS words; token t is bit t % 32 of word t / 32.
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read> allowed: array<u32>;

const NEGATIVE_INFINITY_BITS: u32 = 0xff800000u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let token = group.x * WG + lane;
    if (token >= VOCABULARY || row >= wave_logit_rows()) { return; }
    let word = allowed[row * MASK_WORDS + token / 32u];
    if (((word >> (token % 32u)) & 1u) == 0u) { logits[row * VOCABULARY + token] = NEGATIVE_INFINITY_BITS; }
}
