// Sampling parameters of the rows of logits. `SampleRow` in sampling.rs writes them.
struct SampleRow {
    kind: u32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    // Logarithm of min-p; above 0 if min-p is off.
    log_min_p: f32,
    // The draw's random number, in [0, 1].
    uniform: f32,
    repetition: f32,
    presence: f32,
    frequency: f32,
    // The row's adjustments.
    first: u32,
    count: u32,
    // Index of the token in `sampled`; an index past its end stores nothing.
    place: u32,
}
@group(0) @binding(2) var<storage, read> sample_rows: array<SampleRow>;

const GREEDY: u32 = 1u;
const TOP_K: u32 = 2u;
const FULL: u32 = 3u;

// Returns true if a kernel for `kind` must process the row. The same for all lanes of a workgroup.
fn row_is(row: u32, kind: u32) -> bool {
    return row < wave_logit_rows() && sample_rows[row].kind == kind;
}
