// Groups the pairs of rows and experts by expert, so that an expert's weights are read once for GROUP rows. One
// workgroup. The order within a group is undefined. No result depends on it, since each pair has a product of its own.
@group(0) @binding(1) var<storage, read> routes: array<vec2<u32>>;
// TILES tiles of two words: the expert times 256 plus the number of its pairs (0 for an unused tile), and the index of
// the first pair. Then the pairs, expert by expert.
@group(0) @binding(2) var<storage, read_write> groups: array<u32>;

// Number of pairs of each expert, later the index for its next pair.
var<workgroup> counts: array<atomic<u32>, EXPERTS>;
var<workgroup> sizes: array<u32, EXPERTS>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    let pairs = wave_rows() * USED;
    for (var e = lane; e < EXPERTS; e += WG) { atomicStore(&counts[e], 0u); }
    workgroupBarrier();
    for (var pair = lane; pair < pairs; pair += WG) { atomicAdd(&counts[routes[pair].x], 1u); }
    workgroupBarrier();
    for (var e = lane; e < EXPERTS; e += WG) { sizes[e] = atomicLoad(&counts[e]); }
    workgroupBarrier();
    for (var e = lane; e < EXPERTS; e += WG) {
        var first = 0u;
        var tile = 0u;
        for (var before = 0u; before < e; before++) {
            first += sizes[before];
            tile += (sizes[before] + GROUP - 1u) / GROUP;
        }
        for (var at = 0u; at < sizes[e]; at += GROUP) {
            groups[2u * tile] = (e << 8u) | min(sizes[e] - at, GROUP);
            groups[2u * tile + 1u] = first + at;
            tile++;
        }
        atomicStore(&counts[e], first);
        // Tiles after those of the last expert are unused.
        if (e == EXPERTS - 1u) {
            for (; tile < pairs / GROUP + min(EXPERTS, pairs); tile++) { groups[2u * tile] = 0u; }
        }
    }
    workgroupBarrier();
    for (var pair = lane; pair < pairs; pair += WG) {
        let place = atomicAdd(&counts[routes[pair].x], 1u);
        groups[2u * TILES + place] = pair;
    }
}
