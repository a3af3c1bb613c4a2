// Stores elements e and e + 1 of a row as query, key or value, where the cache stores each pair of elements by itself.
fn store_pair(row: u32, e: u32, v: vec2<f32>) {
    if (e < HEADS * KEY) {
        queries[(row * HEADS * KEY + e) / 2u] = v;
        return;
    }
    let kv = row_kv(row, KV_CLASS);
    if (e < TURNING) {
        let k = e - HEADS * KEY;
        let at = ((kv / PAGE) * KV_HEADS + k / KEY) * PAGE + kv % PAGE;
        store_key((at * KEY + k % KEY) / 2u, v);
    } else {
        let k = e - TURNING;
        let at = ((kv / PAGE) * KV_HEADS + k / VALUE) * PAGE + kv % PAGE;
        store_value((at * VALUE + k % VALUE) / 2u, v);
    }
}
