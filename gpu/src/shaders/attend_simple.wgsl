// stub
@group(0) @binding(1) var<storage, read> queries: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;
@group(0) @binding(4) var<storage, read> tables: array<u32>;
var<workgroup> p: array<f32, WG>;
var<workgroup> o: array<f32, 256>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let head = group.y;
    let kv = head / (HEADS / KV_HEADS);
    let last = row_position(row);
    let q = row * HEADS * KEY + head * KEY;
    var m = -1e30;
    var l = 0.0;
    var acc = 0.0;
    for (var base = 0u; base <= last; base += WG) {
        let t = base + lane;
        var s = -1e30;
        if (t <= last) {
            let at = ((tables[row_table(row) + t / PAGE] * KV_HEADS + kv) * PAGE + t % PAGE) * (KEY / 2u);
            s = 0.0;
            for (var d = 0u; d < KEY / 2u; d++) {
                let k = unpack2x16float(keys[at + d]);
                s += queries[q + 2u * d] * k.x + queries[q + 2u * d + 1u] * k.y;
            }
            s *= SCALE;
        }
        let top = max(m, workgroup_max(lane, s));
        let w = select(0.0, exp(s - top), t <= last);
        l = l * exp(m - top) + workgroup_sum(lane, w);
        p[lane] = w;
        workgroupBarrier();
        acc *= exp(m - top);
        m = top;
        if (lane < VALUE) {
            for (var i = 0u; i < min(WG, last + 1u - base); i++) {
                let t2 = base + i;
                let at = ((tables[row_table(row) + t2 / PAGE] * KV_HEADS + kv) * PAGE + t2 % PAGE) * VALUE + lane;
                let v = unpack2x16float(values[at / 2u]);
                acc += p[i] * select(v.x, v.y, (at & 1u) == 1u);
            }
        }
        workgroupBarrier();
    }
    o[lane] = acc / l;
    workgroupBarrier();
    let i = min(4u * lane, 252u);
    store_act(lane, row, head * VALUE / 4u + lane, vec4<f32>(o[i], o[i+1u], o[i+2u], o[i+3u]), 4u * lane < VALUE);
}
