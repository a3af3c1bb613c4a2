// Merges the splits of `attend`: a workgroup takes 32 elements of a row, eight lanes each four of them and WG / 8 splits at
// once. Rows are ACT_WIDTH = HEADS * VALUE wide.
@group(0) @binding(5) var<storage, read> partials: array<vec4<f32>>;

const LOWEST: f32 = -1e30;
const SLOTS: u32 = WG / 8u;
const STEPS: u32 = (SPLITS_MAX + SLOTS - 1u) / SLOTS;
const VALUE4: u32 = VALUE / 4u;

var<workgroup> slot_tops: array<f32, WG>;
var<workgroup> slot_totals: array<f32, WG>;
var<workgroup> slot_sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 8u + lane % 8u;
    let row = group.y;
    let element = min(i, ACT_WIDTH / 4u - 1u);
    let head = element / VALUE4;
    let count = wave_splits();
    var sums: array<vec4<f32>, STEPS>;
    var tops: array<f32, STEPS>;
    var totals: array<f32, STEPS>;
    for (var n = 0u; n < STEPS; n++) {
        let split = lane / 8u + n * SLOTS;
        let at = ((row * HEADS + head) * count + min(split, count - 1u)) * (VALUE4 + 1u);
        let last = partials[at + VALUE4];
        sums[n] = partials[at + element % VALUE4];
        tops[n] = select(LOWEST, last.x, split < count);
        totals[n] = select(0.0, last.y, split < count);
    }
    var top = tops[0];
    for (var n = 1u; n < STEPS; n++) { top = max(top, tops[n]); }
    slot_tops[lane] = top;
    workgroupBarrier();
    for (var n = 0u; n < SLOTS; n++) { top = max(top, slot_tops[n * 8u + lane % 8u]); }
    var sum = vec4<f32>(0.0);
    var total = 0.0;
    for (var n = 0u; n < STEPS; n++) {
        let kept = exp2(tops[n] - top);
        sum += sums[n] * kept;
        total += totals[n] * kept;
    }
    slot_sums[lane] = sum;
    slot_totals[lane] = total;
    workgroupBarrier();
    sum = vec4<f32>(0.0);
    total = 0.0;
    for (var n = 0u; n < SLOTS; n++) {
        sum += slot_sums[n * 8u + lane % 8u];
        total += slot_totals[n * 8u + lane % 8u];
    }
    store_act(lane, row, i, sum / total, lane < 8u && i < ACT_WIDTH / 4u);
}
