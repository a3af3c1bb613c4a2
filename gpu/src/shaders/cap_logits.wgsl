// Logits, [rows, VOCABULARY], times SCALE, then the soft cap CAP * tanh(logit / CAP) if CAP is not 0.
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    if (i >= VOCABULARY) { return; }
    let at = group.y * VOCABULARY + i;
    var logit = logits[at] * SCALE;
    if (CAP > 0.0) {
        // Beyond 10 the tangent is 1 in 32 bits, and exp would overflow.
        let e = exp(2.0 * clamp(logit / CAP, -10.0, 10.0));
        logit = CAP * ((e - 1.0) / (e + 1.0));
    }
    logits[at] = logit;
}
