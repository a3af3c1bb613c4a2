// Stores a span of `rope_heads` head by head, where the cache stores codes with an f16 scale for every block of 32
// elements: [slot][KV head], then codes [offset in the page][dimension], then scales [offset in the page][block], a
// whole number of words per offset. Heads, queries too, are rotated by `hadamard` first. The part `kv_*_store` defines
// codes and scales.
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

const ROTATED: u32 = max(KEY, VALUE);
// Largest finite f16.
const LARGEST_SCALE: f32 = 65504.0;

var<workgroup> scales: array<f32, (ROTATED + 63u) / 64u * 2u>;

fn store_word(kind: u32, at: u32, word: u32) {
    if (kind == 1u) { keys[at] = word; } else { values[at] = word; }
}

// Computes the scales of the blocks of `head`.
fn find_scales(lane: u32, width: u32) {
    for (var base = 0u; base < width; base += 4u * WG) {
        let i = base + 4u * lane;
        var v = vec4<f32>(0.0);
        if (i < width) { v = vec4<f32>(head[i], head[i + 1u], head[i + 2u], head[i + 3u]); }
        let scale = clamp(block_scale(lane, v), -LARGEST_SCALE, LARGEST_SCALE);
        if (i % 32u == 0u && i < width) { scales[i / 32u] = scale; }
    }
    workgroupBarrier();
}

// Stores `head`, the key or value `index` of a row.
fn store_blocks(lane: u32, kind: u32, kv: u32, index: u32, width: u32) {
    find_scales(lane, width);
    let words = width / WORD;
    let scale_words = (width + 63u) / 64u;
    let page = ((kv / PAGE) * KV_HEADS + index) * PAGE * (words + scale_words);
    for (var w = lane; w < words; w += WG) {
        // The scale as it is stored. In a block without one, all codes are zero.
        let scale = unpack2x16float(pack2x16float(vec2<f32>(scales[w * WORD / 32u], 0.0))).x;
        store_word(kind, page + (kv % PAGE) * words + w, code_word(w * WORD, select(scale, 1.0, scale == 0.0)));
    }
    for (var w = lane; w < scale_words; w += WG) {
        let second = select(0.0, scales[2u * w + 1u], 64u * w + 32u < width);
        let at = page + PAGE * words + (kv % PAGE) * scale_words + w;
        store_word(kind, at, pack2x16float(vec2<f32>(scales[2u * w], second)));
    }
}

fn store_span(lane: u32, row: u32, kind: u32, length: u32, span: Span, position: u32) {
    let width = select(KEY, VALUE, kind == 2u);
    let kv = row_kv(row, KV_CLASS);
    for (var base = 0u; base < length; base += width) {
        let first = span.first + base;
        workgroupBarrier();
        for (var i = 2u * lane; i < width; i += 2u * WG) {
            let v = rotated(row, first + i, span, position);
            head[i] = v.x;
            head[i + 1u] = v.y;
        }
        hadamard(lane, width, width);
        if (kind == 0u) {
            for (var i = 2u * lane; i < width; i += 2u * WG) {
                queries[(row * HEADS * KEY + first + i) / 2u] = vec2<f32>(head[i], head[i + 1u]);
            }
        } else {
            store_blocks(lane, kind, kv, (first - select(HEADS * KEY, TURNING, kind == 2u)) / width, width);
        }
    }
}
