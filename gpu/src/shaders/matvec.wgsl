// Matrix times few rows: out[r][n] = weights[n] · x[r] for up to ROWS rows. A team of LANES lanes takes NR weight rows over
// all of K; a workgroup takes TILE = teams * NR / PARTS columns of the output, each from PARTS weight rows that lie N / PARTS
// apart (a gate and its up projection). The part `out_*` says what becomes of the sums.
const TEAMS: u32 = WG / LANES;
const TILE: u32 = TEAMS * NR / PARTS;
const SUMS: u32 = NR * ROWS;
const PACKETS: u32 = K / PACKET;
const COLUMNS: u32 = N / PARTS;
var<workgroup> sums: array<f32, TEAMS * SUMS>;

// Column of the tile, and part, of a team's n-th weight row: [part][team][n].
fn tile_sum(part: u32, column: u32, r: u32) -> f32 {
    let each = NR / PARTS;
    return sums[((column / each) * NR + part * each + column % each) * ROWS + r];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let team = lane / LANES;
    let first = (group.x + group.y * GRID_X) * TILE;
    var at: array<u32, NR>;
    for (var n = 0u; n < NR; n++) {
        let each = NR / PARTS;
        let column = min(first + team * each + n % each, COLUMNS - 1u);
        at[n] = (n / each) * COLUMNS + column;
    }
    prepare(lane);
    var acc: array<f32, SUMS>;
    for (var p = lane % LANES; p < PACKETS; p += LANES) {
        var w: array<vec4<u32>, NR>;
        var s: array<vec2<f32>, NR>;
        for (var n = 0u; n < NR; n++) {
            w[n] = codes[at[n] * PACKETS + p];
            s[n] = scale_of((at[n] * K + p * PACKET) / 32u);
        }
        add_packets(&acc, w, s, p);
    }
    for (var i = 0u; i < SUMS; i++) {
        let sum = team_sum(lane, acc[i]);
        if (lane % LANES == 0u) { sums[team * SUMS + i] = sum; }
    }
    workgroupBarrier();
    finish(lane, first);
}
