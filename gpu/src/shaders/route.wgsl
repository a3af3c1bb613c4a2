// Chooses a row's experts: the USED largest of its scores, the first among equals. Their weights are the softmax of the
// scores, divided by the sum of the chosen weights if NORMALISE is 1 (Mixtral, arXiv 2401.04088), times WEIGHT_SCALE. A
// workgroup per row.
//
// [rows, SCORES]; the scores of the EXPERTS experts come first.
@group(0) @binding(1) var<storage, read> scores: array<f32>;
// [rows, USED], best first: an expert and the bits of its weight.
@group(0) @binding(2) var<storage, read_write> routes: array<vec2<u32>>;

var<workgroup> row_scores: array<f32, EXPERTS>;
// Number of better experts. A lane reads only what it wrote.
var<workgroup> ranks: array<u32, EXPERTS>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var most = -3e38;
    for (var e = lane; e < EXPERTS; e += WG) {
        let score = scores[row * SCORES + e];
        row_scores[e] = score;
        most = max(most, score);
    }
    let top = workgroup_max(lane, most);
    workgroupBarrier();
    var sum = 0.0;
    for (var e = lane; e < EXPERTS; e += WG) {
        let score = row_scores[e];
        var rank = 0u;
        for (var other = 0u; other < EXPERTS; other++) {
            let better = row_scores[other] > score || (row_scores[other] == score && other < e);
            rank += select(0u, 1u, better);
        }
        ranks[e] = rank;
        if (NORMALISE == 0u || rank < USED) { sum += exp(score - top); }
    }
    let total = workgroup_sum(lane, sum);
    for (var e = lane; e < EXPERTS; e += WG) {
        if (ranks[e] < USED) {
            let weight = exp(row_scores[e] - top) / total * WEIGHT_SCALE;
            routes[row * USED + ranks[e]] = vec2<u32>(e, bitcast<u32>(weight));
        }
    }
}
