enable f16;
enable wgpu_cooperative_matrix;
// Matrix times up to 16 * BANDS rows with cooperative matrices: out[m][n] (=, +=) weights[n] · x[m], f16 inputs, f32
// sums. A workgroup computes all rows and 32 columns. Its eight subgroups divide K in steps of 32, each with its own
// weights in workgroup memory, and their sums are added at the end. BANDS is 1, 2 or 4. `x` has as many rows as whole
// bands.
@group(0) @binding(1) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(30) var<storage, read_write> out: array<f32>;

const STEPS: u32 = K / 32u;
// A row of a step has 8 vectors of 4 f16. Two more avoid bank conflicts between lanes.
const PITCH: u32 = 10u;
var<workgroup> w_tile: array<vec4<f16>, 8u * 32u * PITCH>;
var<workgroup> sums: array<f32, 8u * 256u>;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

// Weights 4j to 4j+3 of a packet.
fn four(w: Packet, s: Scale, j: u32) -> vec4<f16> { return vec4<f16>(scaled(decode(w, j), s, j)); }

fn take(band: u32, side: u32, subgroup: u32, lane: u32, sum: Sum, first_column: u32) {
    workgroupBarrier();
    coopStoreT(sum, &sums[subgroup * 256u], 16u);
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 8u; i++) { total += sums[i * 256u + lane]; }
    let row = band * 16u + lane / 16u;
    let column = first_column + side * 16u + lane % 16u;
    if (row < wave[ROW_COUNT] && column < N) {
        let at = row * OUT_STRIDE + ROW_BASE + column;
        if (ADD == 1u) { out[at] += total; } else { out[at] = total; }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_column = (group.x + group.y * GRID_X) * 32u;
    let subgroup = lane / 32u;
    let weight_row = min(first_column + lane % 32u, N - 1u);
    let tile = subgroup * 32u * PITCH;
    let to = tile + (lane % 32u) * PITCH;
    var c00: Sum; var c01: Sum;
    var c10: Sum; var c11: Sum;
    var c20: Sum; var c21: Sum;
    var c30: Sum; var c31: Sum;

    var e = weight_row * K + min(subgroup, STEPS - 1u) * 32u;
    var w0 = load_packet(e / PACKET);
    var w1 = load_packet((e + 8u) / PACKET);
    var w2 = load_packet((e + 16u) / PACKET);
    var w3 = load_packet((e + 24u) / PACKET);
    // With packets of four weights, each group of eight weights has a second packet.
    var v0: Packet; var v1: Packet; var v2: Packet; var v3: Packet;
    if (PACKET == 4u) {
        v0 = load_packet((e + 4u) / PACKET);
        v1 = load_packet((e + 12u) / PACKET);
        v2 = load_packet((e + 20u) / PACKET);
        v3 = load_packet((e + 28u) / PACKET);
    }
    var s = scale_of(e / 32u);
    for (var turn = 0u; turn < (STEPS + 7u) / 8u; turn++) {
        let step = turn * 8u + subgroup;
        // Steps past the end add zeros.
        if (step >= STEPS) { s = Scale(); }
        workgroupBarrier();
        if (PACKET > 4u) { v0 = w0; v1 = w1; v2 = w2; v3 = w3; }
        w_tile[to] = four(w0, s, 0u);
        w_tile[to + 1u] = four(v0, s, (4u % PACKET) / 4u);
        w_tile[to + 2u] = four(w1, s, (8u % PACKET) / 4u);
        w_tile[to + 3u] = four(v1, s, (12u % PACKET) / 4u);
        w_tile[to + 4u] = four(w2, s, (16u % PACKET) / 4u);
        w_tile[to + 5u] = four(v2, s, (20u % PACKET) / 4u);
        w_tile[to + 6u] = four(w3, s, (24u % PACKET) / 4u);
        w_tile[to + 7u] = four(v3, s, (28u % PACKET) / 4u);
        workgroupBarrier();
        e = weight_row * K + min(step + 8u, STEPS - 1u) * 32u;
        w0 = load_packet(e / PACKET);
        w1 = load_packet((e + 8u) / PACKET);
        w2 = load_packet((e + 16u) / PACKET);
        w3 = load_packet((e + 24u) / PACKET);
        if (PACKET == 4u) {
            v0 = load_packet((e + 4u) / PACKET);
            v1 = load_packet((e + 12u) / PACKET);
            v2 = load_packet((e + 20u) / PACKET);
            v3 = load_packet((e + 28u) / PACKET);
        }
        s = scale_of(e / 32u);
        let at = min(step, STEPS - 1u) * 8u;
        for (var k = 0u; k < 8u; k += 4u) {
            // Rows of weights are columns of the right-hand side.
            let b0 = coopLoad<Right>(&w_tile[tile + k], PITCH);
            let b1 = coopLoad<Right>(&w_tile[tile + 16u * PITCH + k], PITCH);
            let a0 = coopLoadT<Left>(&x[at + k], K / 4u);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            if (BANDS > 1u) {
                let a1 = coopLoadT<Left>(&x[16u * (K / 4u) + at + k], K / 4u);
                c10 = coopMultiplyAdd(a1, b0, c10);
                c11 = coopMultiplyAdd(a1, b1, c11);
            }
            if (BANDS > 2u) {
                let a2 = coopLoadT<Left>(&x[32u * (K / 4u) + at + k], K / 4u);
                c20 = coopMultiplyAdd(a2, b0, c20);
                c21 = coopMultiplyAdd(a2, b1, c21);
                let a3 = coopLoadT<Left>(&x[48u * (K / 4u) + at + k], K / 4u);
                c30 = coopMultiplyAdd(a3, b0, c30);
                c31 = coopMultiplyAdd(a3, b1, c31);
            }
        }
    }
    take(0u, 0u, subgroup, lane, c00, first_column);
    take(0u, 1u, subgroup, lane, c01, first_column);
    if (BANDS > 1u) {
        take(1u, 0u, subgroup, lane, c10, first_column);
        take(1u, 1u, subgroup, lane, c11, first_column);
    }
    if (BANDS > 2u) {
        take(2u, 0u, subgroup, lane, c20, first_column);
        take(2u, 1u, subgroup, lane, c21, first_column);
        take(3u, 0u, subgroup, lane, c30, first_column);
        take(3u, 1u, subgroup, lane, c31, first_column);
    }
}
