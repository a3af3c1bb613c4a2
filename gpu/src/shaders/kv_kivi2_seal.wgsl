// Seals pages: converts the pages that rows of the wave complete from f16 to codes of 2 bits, as in KIVI (arXiv 2402.02750).
// A workgroup processes one head of a row's page. A block is 32 numbers: one dimension of a page's keys, or 32 dimensions
// of a value; the last block of a value may be shorter, and is filled up with its first number. Four levels are spread over
// parts of a block's range. For the codes of each part the least squares give scale and minimum, and those with the
// least error are taken.
@group(0) @binding(4) var<storage, read> tables: array<u32>;
@group(0) @binding(7) var<storage, read_write> keys: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

const LARGEST: f32 = 65504.0;

// Scale and minimum of each dimension of the keys, as they are stored.
var<workgroup> key_levels: array<vec2<f32>, KEY>;

var<private> block: array<f32, 32>;

fn nearest_code(x: f32) -> f32 { return round(clamp(x, 0.0, 3.0)); }

// Scale and minimum of `block`, as a word and as they are stored.
fn levels() -> u32 {
    var least = block[0];
    var most = block[0];
    for (var i = 1u; i < 32u; i++) {
        least = min(least, block[i]);
        most = max(most, block[i]);
    }
    let range = most - least;
    if (range == 0.0) { return pack2x16float(vec2<f32>(0.0, least)); }
    // Relative to the middle, so that no sum cancels.
    let middle = least + range / 2.0;
    var sum = 0.0;
    for (var i = 0u; i < 32u; i++) { sum += block[i] - middle; }
    var best = -3e38;
    var found = vec2<f32>(0.0);
    for (var n = 0u; n < 4u; n++) {
        let shrink = select(select(select(0.66, 0.76, n == 2u), 0.87, n == 1u), 1.0, n == 0u);
        let step = range * (shrink / 3.0);
        var codes = 0.0;
        var squares = 0.0;
        var products = 0.0;
        for (var i = 0u; i < 32u; i++) {
            let y = block[i] - middle;
            let q = nearest_code((y + 1.5 * step) / step);
            codes += q;
            squares += q * q;
            products += y * q;
        }
        let scale = (32.0 * products - sum * codes) / (32.0 * squares - codes * codes);
        let offset = (sum - scale * codes) / 32.0;
        let gain = offset * sum + scale * products;
        if (gain > best) {
            best = gain;
            found = vec2<f32>(scale, offset);
        }
    }
    return pack2x16float(vec2<f32>(min(found.x, LARGEST), clamp(found.y + middle, -LARGEST, LARGEST)));
}

fn code_of(x: f32, level: vec2<f32>) -> u32 {
    if (level.x == 0.0) { return 0u; }
    return u32(nearest_code((x - level.y) / level.x));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let row = group.y;
    let position = row_position(row);
    if (position % PAGE != PAGE - 1u) { return; }
    let page = row_table(row) + position / PAGE;
    let sealed = tables[TABLES + page] * KV_HEADS + head;
    let recent = tables[RECENT_TABLES + page] * KV_HEADS + head;
    let from_keys = SEALED_PAGES * KEY_PAGE + recent * PAGE * (KEY / 2u);
    let from_values = SEALED_PAGES * VALUE_PAGE + recent * PAGE * (VALUE / 2u);
    let to_keys = sealed * KEY_PAGE;
    let to_values = sealed * VALUE_PAGE;

    for (var d = lane; d < KEY; d += WG) {
        for (var t = 0u; t < PAGE; t++) {
            block[t] = unpack2x16float(keys[from_keys + t * (KEY / 2u) + d / 2u])[d % 2u];
        }
        let level = levels();
        key_levels[d] = unpack2x16float(level);
        keys[to_keys + PAGE * KEY_ROW + d] = level;
    }
    workgroupBarrier();
    for (var w = lane; w < PAGE * KEY_ROW; w += WG) {
        let t = w / KEY_ROW;
        let first = 16u * (w % KEY_ROW);
        var word = 0u;
        for (var i = 0u; i < min(16u, KEY - first); i++) {
            let d = first + i;
            let x = unpack2x16float(keys[from_keys + t * (KEY / 2u) + d / 2u])[d % 2u];
            word |= code_of(x, key_levels[d]) << (2u * i);
        }
        keys[to_keys + w] = word;
    }
    for (var b = lane; b < PAGE * VALUE_BLOCKS; b += WG) {
        let t = b / VALUE_BLOCKS;
        let first = 32u * (b % VALUE_BLOCKS);
        let count = min(32u, VALUE - first);
        for (var i = 0u; i < 32u; i++) {
            let d = first + select(0u, i, i < count);
            block[i] = unpack2x16float(values[from_values + t * (VALUE / 2u) + d / 2u])[d % 2u];
        }
        let stored = levels();
        let level = unpack2x16float(stored);
        values[to_values + PAGE * VALUE_ROW + b] = stored;
        for (var half = 0u; half < (count + 15u) / 16u; half++) {
            var word = 0u;
            for (var i = 0u; i < 16u; i++) {
                word |= code_of(block[16u * half + i], level) << (2u * i);
            }
            values[to_values + t * VALUE_ROW + first / 16u + half] = word;
        }
    }
}
