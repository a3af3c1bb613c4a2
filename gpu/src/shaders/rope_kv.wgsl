// Rotary embedding of rows that a projection has stored in `qkv`, and writing the KV cache. A lane processes two
// adjacent elements.
@group(0) @binding(1) var<storage, read> qkv: array<vec2<f32>>;

// Element e of a row rotated, where dimensions i and i + ROPE / 2 of a head are pairs.
fn turned(row: u32, e: u32, position: u32) -> f32 {
    let v = qkv[(row * STRIDE + e) / 2u][e % 2u];
    let d = e % KEY;
    if (d >= ROPE) { return v; }
    let second = d >= ROPE / 2u;
    let other = select(e + ROPE / 2u, e - ROPE / 2u, second);
    let a = angle(select(d, d - ROPE / 2u, second), position);
    let o = qkv[(row * STRIDE + other) / 2u][other % 2u];
    return select(v * a.x - o * a.y, v * a.x + o * a.y, second);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let e = 2u * (group.x * WG + lane);
    let row = group.y;
    if (e >= STRIDE) { return; }
    let position = row_position(row);
    let v = qkv[(row * STRIDE + e) / 2u];
    if (HALVES == 1u && e < TURNING) {
        store_pair(row, e, vec2<f32>(turned(row, e, position), turned(row, e + 1u, position)));
    } else {
        store_pair(row, e, turn_neighbours(v, e, position));
    }
}
