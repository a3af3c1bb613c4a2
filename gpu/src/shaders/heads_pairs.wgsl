// Stores a span of `rope_heads`, where the cache stores each pair of elements by itself.
fn store_span(lane: u32, row: u32, kind: u32, length: u32, span: Span, position: u32) {
    for (var i = 2u * lane; i < length; i += 2u * WG) {
        let e = span.first + i;
        store_pair(row, e, rotated(row, e, span, position));
    }
}
