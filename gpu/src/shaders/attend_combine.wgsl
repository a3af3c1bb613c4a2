// Merges the splits of `attend`. A workgroup computes 32 elements of a row: each of eight lanes computes four of them,
// and WG / 8 splits are read at once. Rows have ACT_WIDTH = HEADS * VALUE elements.
@group(0) @binding(5) var<storage, read> partials: array<vec4<f32>>;

// Initial maximum, before any score.
const LOWEST: f32 = -1e30;
// Splits read at once. A lane reads up to four.
const SLOTS: u32 = WG / 8u;
const VALUE4: u32 = VALUE / 4u;

const_assert SPLITS_MAX <= 4u * SLOTS;

var<workgroup> slot_tops: array<f32, WG>;
var<workgroup> slot_totals: array<f32, WG>;
var<workgroup> slot_sums: array<vec4<f32>, WG>;

struct Partial {
    sum: vec4<f32>,
    top: f32,
    total: f32,
}

// Vector e of a split's sums; zeros beyond the last split.
fn partial(first: u32, split: u32, e: u32) -> Partial {
    let count = wave_splits();
    let at = (first + min(split, count - 1u)) * (VALUE4 + 1u);
    let last = partials[at + VALUE4];
    let there = split < count;
    return Partial(partials[at + e], select(LOWEST, last.x, there), select(0.0, last.y, there));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 8u + lane % 8u;
    let row = group.y;
    let element = min(i, ACT_WIDTH / 4u - 1u);
    let first = (row * HEADS + element / VALUE4) * wave_splits();
    let slot = lane / 8u;
    let a = partial(first, slot, element % VALUE4);
    let b = partial(first, slot + SLOTS, element % VALUE4);
    let c = partial(first, slot + 2u * SLOTS, element % VALUE4);
    let d = partial(first, slot + 3u * SLOTS, element % VALUE4);
    var top = max(max(a.top, b.top), max(c.top, d.top));
    slot_tops[lane] = top;
    workgroupBarrier();
    for (var n = 0u; n < SLOTS; n++) { top = max(top, slot_tops[n * 8u + lane % 8u]); }
    let kept = exp2(vec4<f32>(a.top, b.top, c.top, d.top) - top);
    slot_sums[lane] = a.sum * kept.x + b.sum * kept.y + c.sum * kept.z + d.sum * kept.w;
    slot_totals[lane] = dot(vec4<f32>(a.total, b.total, c.total, d.total), kept);
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    var total = 0.0;
    if (lane < 8u) {
        for (var n = 0u; n < SLOTS; n++) {
            sum += slot_sums[n * 8u + lane];
            total += slot_totals[n * 8u + lane];
        }
    }
    store_act(lane, row, i, sum / total, lane < 8u && i < ACT_WIDTH / 4u);
}
