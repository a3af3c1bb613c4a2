// Draw from the whole vocabulary in the order of ids, second half: finds the chunk of the draw, then the lane, then the
// token. A workgroup per row.
@group(0) @binding(6) var<storage, read> partials: array<u32>;

const LANE_CHUNKS: u32 = (CHUNKS + WG - 1u) / WG;
const LANE_PACKETS: u32 = CHUNK_PACKETS / WG;

// The chunk of the draw, and the weight of all chunks before it.
var<workgroup> drawn_chunk: u32;
var<workgroup> drawn_mass: f32;

fn chunk_key(row: u32, chunk: u32) -> u32 {
    return select(0u, partials[row * ROW_PARTIALS + 2u * min(chunk, CHUNKS - 1u)], chunk < CHUNKS);
}

// Weight of a chunk, relative to the row's largest key.
fn chunk_weight(row: u32, chunk: u32, top: u32, temperature: f32) -> f32 {
    let sum = bitcast<f32>(partials[row * ROW_PARTIALS + 2u * min(chunk, CHUNKS - 1u) + 1u]);
    return sum * weight(chunk_key(row, chunk), top, temperature);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (!row_is(row, FULL)) { return; }
    let temperature = sample_rows[row].temperature;

    var most = 0u;
    for (var i = 0u; i < LANE_CHUNKS; i++) { most = max(most, chunk_key(row, lane * LANE_CHUNKS + i)); }
    let top = workgroup_most(lane, most);
    var of_chunks = 0.0;
    for (var i = 0u; i < LANE_CHUNKS; i++) {
        of_chunks += chunk_weight(row, lane * LANE_CHUNKS + i, top, temperature);
    }
    let chunks = scan_weights(lane, of_chunks);
    let goal = sample_rows[row].uniform * chunks.y;
    if (lane == 0u) {
        drawn_chunk = 0u;
        drawn_mass = 0.0;
    }
    if (drawn_lane(lane, of_chunks, chunks.x, goal) == lane) {
        var mass = chunks.x - of_chunks;
        var passed = false;
        for (var i = 0u; i < LANE_CHUNKS; i++) {
            let more = chunk_weight(row, lane * LANE_CHUNKS + i, top, temperature);
            if (more > 0.0 && !passed) {
                drawn_chunk = lane * LANE_CHUNKS + i;
                drawn_mass = mass;
                mass += more;
                passed = mass > goal;
            }
        }
    }
    workgroupBarrier();

    let packet = drawn_chunk * CHUNK_PACKETS + lane * LANE_PACKETS;
    var weights: array<vec4<f32>, LANE_PACKETS>;
    var of_lane = 0.0;
    for (var i = 0u; i < LANE_PACKETS; i++) {
        let keys = packet_keys(row, packet + i);
        for (var e = 0u; e < 4u; e++) {
            weights[i][e] = weight(keys[e], top, temperature);
            of_lane += weights[i][e];
        }
    }
    let before = drawn_mass;
    let running = scan_weights(lane, of_lane).x;
    let drawn = drawn_lane(lane, of_lane, before + running, goal);
    if (drawn == lane) {
        var mass = before + running - of_lane;
        var token = NO_TOKEN;
        var passed = false;
        for (var i = 0u; i < 4u * LANE_PACKETS; i++) {
            let more = weights[i / 4u][i % 4u];
            if (more > 0.0 && !passed) {
                token = packet_id(row, packet) + i;
                mass += more;
                passed = mass > goal;
            }
        }
        store_token(row, token);
    }
    if (drawn == NO_LANE && lane == 0u) { store_token(row, NO_TOKEN); }
}
