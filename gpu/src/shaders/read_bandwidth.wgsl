// Reads a buffer once and stores nothing, to measure the memory's read rate. A workgroup reads PER * WG adjacent
// packets, its lanes side by side.
@group(0) @binding(0) var<storage, read> packets: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> found: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * PER * WG + lane;
    var sum = vec4<u32>();
    for (var i = 0u; i < PER; i++) { sum = sum ^ packets[first + i * WG]; }
    // Never true, because the buffer contains zeros, which the compiler does not know.
    if ((sum.x | sum.y | sum.z | sum.w) != 0u) { found[0] = lane; }
}
