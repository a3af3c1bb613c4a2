// Top-k, second half: the k most likely tokens, sorted, then top-p, min-p, temperature and the draw. A workgroup per
// row.
//
// The k most likely tokens are in the k blocks with the largest maxima (the lower block among equals), since a token of
// another block ranks after the maxima of those k. So the k blocks are chosen by their maxima, then the k tokens from
// those blocks, both with `cut`.
@group(0) @binding(6) var<storage, read> partials: array<u32>;

const BLOCKS: u32 = (PACKETS + 7u) / 8u;
const LANE_BLOCKS: u32 = (BLOCKS + WG - 1u) / WG;
// Lanes that share a chosen block, and packets of it per lane.
const BLOCK_LANES: u32 = WG / K_MAX;
const LANE_PACKETS: u32 = 8u / BLOCK_LANES;
const LANE_KEYS: u32 = max(LANE_BLOCKS, 4u * LANE_PACKETS);

var<workgroup> blocks: array<u32, K_MAX>;
// Candidates: in the order of ids, then most likely first.
var<workgroup> found_keys: array<u32, K_MAX>;
var<workgroup> found_ids: array<u32, K_MAX>;
var<workgroup> sorted_keys: array<u32, K_MAX>;
var<workgroup> sorted_ids: array<u32, K_MAX>;

// Which keys are among the k largest, the first among equals, and the state of a lane that goes through its keys.
struct Cut {
    // The k-th largest key; 0 if fewer than k tokens can be chosen.
    threshold: u32,
    // Number of keys equal to the threshold that are taken.
    ties: u32,
    // Number of keys taken in total.
    taken: u32,
    // Number of keys above and equal to the threshold, up to the current one.
    above: u32,
    equal: u32,
}

// The keys of a lane come before those of the next lane.
fn cut(lane: u32, keys: ptr<function, array<u32, LANE_KEYS>>, k: u32) -> Cut {
    // Finds, bit by bit, the largest threshold that at least k keys reach.
    var threshold = 0u;
    for (var i = 0u; i < 32u; i++) {
        let higher = threshold | (0x80000000u >> i);
        var reached = 0u;
        for (var j = 0u; j < LANE_KEYS; j++) { reached += select(0u, 1u, (*keys)[j] >= higher); }
        if (workgroup_count(lane, i % 2u, reached) >= k) { threshold = higher; }
    }
    // A word holds two counts of up to 65,535.
    var counts = 0u;
    for (var j = 0u; j < LANE_KEYS; j++) {
        let key = (*keys)[j];
        counts += select(select(0u, 0x10000u, key == threshold && key > 0u), 1u, key > threshold);
    }
    let scan = scan_counts(lane, counts);
    let above = scan.y & 0xffffu;
    let ties = min(scan.y >> 16u, k - above);
    return Cut(threshold, ties, above + ties, scan.x & 0xffffu, scan.x >> 16u);
}

// Index of the lane's next key among those taken; K_MAX if it is not taken.
fn take(from_cut: ptr<function, Cut>, key: u32) -> u32 {
    let at = (*from_cut).above + min((*from_cut).equal, (*from_cut).ties);
    if (key > (*from_cut).threshold) {
        (*from_cut).above++;
        return at;
    }
    if (key == 0u || key < (*from_cut).threshold) { return K_MAX; }
    (*from_cut).equal++;
    return select(K_MAX, at, (*from_cut).equal <= (*from_cut).ties);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (!row_is(row, TOP_K)) { return; }
    let wanted = sample_rows[row];
    let k = clamp(wanted.top_k, 1u, K_MAX);

    var keys: array<u32, LANE_KEYS>;
    for (var i = 0u; i < LANE_BLOCKS; i++) {
        let block = lane * LANE_BLOCKS + i;
        keys[i] = select(0u, partials[row * ROW_PARTIALS + min(block, BLOCKS - 1u)], block < BLOCKS);
    }
    var of_blocks = cut(lane, &keys, k);
    for (var i = 0u; i < LANE_BLOCKS; i++) {
        let at = take(&of_blocks, keys[i]);
        if (at < K_MAX) { blocks[at] = lane * LANE_BLOCKS + i; }
    }
    if (lane < K_MAX) { found_keys[lane] = 0u; }
    workgroupBarrier();

    let mine = lane / BLOCK_LANES;
    var packet = PACKETS;
    if (mine < of_blocks.taken) { packet = blocks[mine] * 8u + (lane % BLOCK_LANES) * LANE_PACKETS; }
    for (var i = 0u; i < LANE_KEYS; i++) { keys[i] = 0u; }
    for (var i = 0u; i < LANE_PACKETS; i++) {
        let four = packet_keys(row, packet + i);
        for (var e = 0u; e < 4u; e++) { keys[4u * i + e] = four[e]; }
    }
    var of_tokens = cut(lane, &keys, k);
    for (var i = 0u; i < 4u * LANE_PACKETS; i++) {
        let at = take(&of_tokens, keys[i]);
        if (at < K_MAX) {
            found_keys[at] = keys[i];
            found_ids[at] = packet_id(row, packet) + i;
        }
    }
    workgroupBarrier();

    let taken = of_tokens.taken;
    if (lane < taken) {
        let key = found_keys[lane];
        var place = 0u;
        for (var i = 0u; i < K_MAX; i++) {
            let other = found_keys[i];
            place += select(0u, 1u, other > key || (other == key && i < lane));
        }
        sorted_keys[place] = key;
        sorted_ids[place] = found_ids[lane];
    }
    workgroupBarrier();

    var key = 0u;
    if (lane < taken) { key = sorted_keys[lane]; }
    // If nothing was taken, the values here are not used, because no key can be chosen.
    let top = sorted_keys[0];
    let mass = scan_weights(lane, weight(key, top, 1.0));
    // Top-p keeps the tokens before the cumulative probability is reached, and one more. Min-p keeps tokens that are
    // likely enough.
    let short = lane < taken && mass.x < wanted.top_p * mass.y;
    let alike = wanted.log_min_p > 0.0 || key == top;
    let likely = lane < taken && (alike || logit_of(key) >= logit_of(top) + wanted.log_min_p);
    let counts = workgroup_count(lane, 0u, select(0u, 1u, short) + select(0u, 0x10000u, likely));
    let within_p = select(taken, (counts & 0xffffu) + 1u, wanted.top_p < 1.0);
    let kept = min(taken, min(within_p, counts >> 16u));

    var chance = 0.0;
    if (lane < kept) { chance = weight(key, top, wanted.temperature); }
    let running = scan_weights(lane, chance);
    let drawn = drawn_lane(lane, chance, running.x, wanted.uniform * running.y);
    if (lane == 0u) {
        if (drawn < K_MAX) { store_token(row, sorted_ids[drawn]); } else { store_token(row, NO_TOKEN); }
    }
}
