// Matrix times few rows: out[r][n] = weights[n] · x[r] for up to ROWS rows. A group of SPLIT teams of LANES lanes
// computes EACH weight rows, NR at a time; its teams divide K. A workgroup computes TILE columns of the output. Each
// column comes from PARTS weight rows that are N / PARTS apart (a gate and its up projection). The part `out_*` stores
// the sums; the part `rows_*` defines the rows and the weights.
const TEAMS: u32 = WG / LANES;
const EACH: u32 = NR * PASSES;
const TILE: u32 = TEAMS / SPLIT * EACH / PARTS;
const SUMS: u32 = NR * ROWS;
const PACKETS: u32 = K / PACKET;
const COLUMNS: u32 = N / PARTS;
// Packets between two iterations of a team.
const TURN_PACKETS: u32 = LANES * SPLIT;
// Sums of a team, over all passes.
const TEAM_SUMS: u32 = EACH * ROWS;
var<workgroup> sums: array<f32, TEAMS * TEAM_SUMS>;

// Sum of a column of the tile, for one part and row: adds up the sums of the group's teams, which are
// [team][part][column of the group].
fn tile_sum(part: u32, column: u32, r: u32) -> f32 {
    let each = EACH / PARTS;
    let at = (column / each) * SPLIT * TEAM_SUMS + (part * each + column % each) * ROWS + r;
    var sum = sums[at];
    for (var i = 1u; i < SPLIT; i++) { sum += sums[at + i * TEAM_SUMS]; }
    return sum;
}

// The n-th weight row of a team. Beyond the last column it is the last row again.
fn weight_row(first: u32, team: u32, n: u32) -> u32 {
    let each = EACH / PARTS;
    let column = min(first + (team / SPLIT) * each + n % each, COLUMNS - 1u);
    return (n / each) * COLUMNS + column;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (!enter(group.z)) { return; }
    let base = weight_base();
    let team = lane / LANES;
    let first = (group.x + group.y * GRID_X) * TILE;
    let begin = (team % SPLIT) * LANES + lane % LANES;
    // A lane's first packets are loaded while activations are prepared, and while earlier sums are added up.
    let start = min(begin, PACKETS - 1u);
    var at: array<u32, NR>;
    var w: array<Packet, NR>;
    var s: array<Scale, NR>;
    for (var n = 0u; n < NR; n++) {
        at[n] = base + weight_row(first, team, n);
        w[n] = load_packet(at[n] * PACKETS + start);
        s[n] = scale_of((at[n] * K + start * PACKET) / 32u);
    }
    prepare(lane);
    for (var turn = 0u; turn < PASSES; turn++) {
        var acc = array<f32, SUMS>();
        if (begin < PACKETS) { add_packets(&acc, w, s, begin); }
        for (var p = begin + TURN_PACKETS; p < PACKETS; p += TURN_PACKETS) {
            for (var n = 0u; n < NR; n++) {
                w[n] = load_packet(at[n] * PACKETS + p);
                s[n] = scale_of((at[n] * K + p * PACKET) / 32u);
            }
            add_packets(&acc, w, s, p);
        }
        if (turn + 1u < PASSES) {
            for (var n = 0u; n < NR; n++) {
                at[n] = base + weight_row(first, team, (turn + 1u) * NR + n);
                w[n] = load_packet(at[n] * PACKETS + start);
                s[n] = scale_of((at[n] * K + start * PACKET) / 32u);
            }
        }
        for (var i = 0u; i < SUMS; i++) {
            let sum = team_sum(lane, acc[i]);
            if (lane % LANES == 0u) { sums[team * TEAM_SUMS + turn * SUMS + i] = sum; }
        }
    }
    workgroupBarrier();
    finish(lane, first, group.z);
}
