enable f16;
enable wgpu_cooperative_matrix;
// Matrix times many rows with cooperative matrices: out[m][n] (=, +=) weights[n] · x[m], f16 inputs, f32 sums. A
// workgroup of eight subgroups computes a tile of 128 rows and 128 columns, each subgroup 32 rows and 64 columns of it.
// It goes through K in steps of 32, with both sides in workgroup memory as f16, double-buffered: the next step is
// loaded while one is computed. Buffers of rows have the length of whole tiles; N is a multiple of 128.
@group(0) @binding(1) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(30) var<storage, read_write> out: array<f32>;

const BM: u32 = 128u;
const BN: u32 = 128u;
// A row of a step has 8 vectors of 4 f16. Two more avoid bank conflicts between lanes.
const PITCH: u32 = 10u;
const SIDE: u32 = BM * PITCH;
var<workgroup> x_tile: array<vec4<f16>, 2u * SIDE>;
var<workgroup> w_tile: array<vec4<f16>, 2u * SIDE>;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

// Weights 4j to 4j+3 of a packet.
fn four(w: Packet, s: Scale, j: u32) -> vec4<f16> { return vec4<f16>(scaled(decode(w, j), s, j)); }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.x * BM;
    let first_column = (group.y + group.z * GRID_Y) * BN;
    let subgroup = lane / 32u;
    let m = (subgroup % 4u) * 32u;
    let n = (subgroup / 4u) * 64u;

    // A lane loads 16 f16 of a row of x and 16 weights of a row of the matrix.
    let part = lane % 2u;
    let tile_row = lane / 2u;
    let x_at = (first_row + tile_row) * (K / 4u) + part * 4u;
    let weight_row = first_column + tile_row;
    var c00: Sum; var c01: Sum; var c02: Sum; var c03: Sum;
    var c10: Sum; var c11: Sum; var c12: Sum; var c13: Sum;

    let to = tile_row * PITCH + part * 4u;
    for (var i = 0u; i < 4u; i++) { x_tile[to + i] = x[x_at + i]; }
    var e = weight_row * K + part * 16u;
    var s = scale_of(e / 32u);
    w_tile[to] = four(load_packet(e / PACKET), s, (e % PACKET) / 4u);
    w_tile[to + 1u] = four(load_packet((e + 4u) / PACKET), s, ((e + 4u) % PACKET) / 4u);
    w_tile[to + 2u] = four(load_packet((e + 8u) / PACKET), s, ((e + 8u) % PACKET) / 4u);
    w_tile[to + 3u] = four(load_packet((e + 12u) / PACKET), s, ((e + 12u) % PACKET) / 4u);
    workgroupBarrier();
    for (var step = 0u; step < K / 32u; step++) {
        // The last step loads itself again, so that no load is out of bounds.
        let next = min(step + 1u, K / 32u - 1u);
        let x0 = x[x_at + next * 8u];
        let x1 = x[x_at + next * 8u + 1u];
        let x2 = x[x_at + next * 8u + 2u];
        let x3 = x[x_at + next * 8u + 3u];
        e = weight_row * K + next * 32u + part * 16u;
        let w0 = load_packet(e / PACKET);
        let w1 = load_packet((e + 4u) / PACKET);
        let w2 = load_packet((e + 8u) / PACKET);
        let w3 = load_packet((e + 12u) / PACKET);
        s = scale_of(e / 32u);
        let now = (step % 2u) * SIDE;
        for (var k = 0u; k < 8u; k += 4u) {
            let a0 = coopLoadT<Left>(&x_tile[now + m * PITCH + k], PITCH);
            let a1 = coopLoadT<Left>(&x_tile[now + (m + 16u) * PITCH + k], PITCH);
            // Rows of weights are columns of the right-hand side.
            let b0 = coopLoad<Right>(&w_tile[now + n * PITCH + k], PITCH);
            let b1 = coopLoad<Right>(&w_tile[now + (n + 16u) * PITCH + k], PITCH);
            let b2 = coopLoad<Right>(&w_tile[now + (n + 32u) * PITCH + k], PITCH);
            let b3 = coopLoad<Right>(&w_tile[now + (n + 48u) * PITCH + k], PITCH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c02 = coopMultiplyAdd(a0, b2, c02);
            c03 = coopMultiplyAdd(a0, b3, c03);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            c12 = coopMultiplyAdd(a1, b2, c12);
            c13 = coopMultiplyAdd(a1, b3, c13);
        }
        let then = SIDE - now + to;
        x_tile[then] = x0;
        x_tile[then + 1u] = x1;
        x_tile[then + 2u] = x2;
        x_tile[then + 3u] = x3;
        w_tile[then] = four(w0, s, (e % PACKET) / 4u);
        w_tile[then + 1u] = four(w1, s, ((e + 4u) % PACKET) / 4u);
        w_tile[then + 2u] = four(w2, s, ((e + 8u) % PACKET) / 4u);
        w_tile[then + 3u] = four(w3, s, ((e + 12u) % PACKET) / 4u);
        workgroupBarrier();
    }
    let row = first_row + m;
    let column = first_column + n;
    put(row, column, c00);
    put(row, column + 16u, c01);
    put(row, column + 32u, c02);
    put(row, column + 48u, c03);
    put(row + 16u, column, c10);
    put(row + 16u, column + 16u, c11);
    put(row + 16u, column + 32u, c12);
    put(row + 16u, column + 48u, c13);
}

fn put(row: u32, column: u32, sums: Sum) {
    let at = row * OUT_STRIDE + ROW_BASE + column;
    if (ADD == 1u) {
        let before = coopLoadT<Sum>(&out[at], OUT_STRIDE);
        coopStoreT(before + sums, &out[at], OUT_STRIDE);
    } else {
        coopStoreT(sums, &out[at], OUT_STRIDE);
    }
}
