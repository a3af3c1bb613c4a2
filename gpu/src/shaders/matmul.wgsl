// Matrix times many rows, out[m][n] (=, +=) weights[n] · x[m], without cooperative matrices. A workgroup of 64 lanes
// computes a tile of 32 rows and 32 columns. It goes through K in blocks of 32, with the blocks of both sides in
// workgroup memory as floats.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(30) var<storage, read_write> out: array<f32>;

// A row of a block has 8 vectors. A ninth avoids bank conflicts between lanes.
const PITCH: u32 = 9u;
var<workgroup> x_tile: array<vec4<f32>, 32u * PITCH>;
var<workgroup> w_tile: array<vec4<f32>, 32u * PITCH>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = wave[ROW_COUNT];
    let first_row = group.x * 32u;
    let first_column = (group.y + group.z * GRID_Y) * 32u;
    // A lane computes rows my_row, my_row + 8, + 16 and + 24, and its columns likewise.
    let my_row = lane / 8u;
    let my_column = lane % 8u;
    var acc: array<vec4<f32>, 4>;
    for (var block = 0u; block < K / 32u; block++) {
        for (var i = lane; i < 256u; i += 64u) {
            let row = min(first_row + i / 8u, rows - 1u);
            x_tile[(i / 8u) * PITCH + i % 8u] = x[row * (K / 4u) + block * 8u + i % 8u];
        }
        for (var i = lane; i < 1024u / PACKET; i += 64u) {
            let column = i / (32u / PACKET);
            let packet = i % (32u / PACKET);
            let weight_row = min(first_column + column, N - 1u);
            let w = load_packet(weight_row * (K / PACKET) + block * (32u / PACKET) + packet);
            let s = scale_of(weight_row * (K / 32u) + block);
            for (var j = 0u; j < PACKET / 4u; j++) {
                w_tile[column * PITCH + packet * (PACKET / 4u) + j] = scaled(decode(w, j), s, j);
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let w = array<vec4<f32>, 4>(
                w_tile[my_column * PITCH + k],
                w_tile[(my_column + 8u) * PITCH + k],
                w_tile[(my_column + 16u) * PITCH + k],
                w_tile[(my_column + 24u) * PITCH + k],
            );
            for (var m = 0u; m < 4u; m++) {
                let v = x_tile[(my_row + 8u * m) * PITCH + k];
                acc[m] += vec4<f32>(dot(v, w[0]), dot(v, w[1]), dot(v, w[2]), dot(v, w[3]));
            }
        }
        workgroupBarrier();
    }
    for (var m = 0u; m < 4u; m++) {
        let row = first_row + my_row + 8u * m;
        for (var n = 0u; n < 4u; n++) {
            let column = first_column + my_column + 8u * n;
            if (row < rows && column < N) {
                let at = row * OUT_STRIDE + ROW_BASE + column;
                if (ADD == 1u) { out[at] += acc[m][n]; } else { out[at] = acc[m][n]; }
            }
        }
    }
}
