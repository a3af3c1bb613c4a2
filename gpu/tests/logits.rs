//! Logits processors in WGSL and masks of allowed tokens, compared with twins on the host.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::{Random, buffer, devices, read, run, wave};
use weft_gpu::sampling::NO_TOKEN;
use weft_gpu::sampling::{SampleBatch, Sampling};
use weft_gpu::{
    Commands, Gpu, GpuError, LogitsBuffers, LogitsKernel, LogitsMask, LogitsShader, WaveData, wgpu,
};

/// Bits of random logits, among them infinities, NaN and both zeros.
fn logits(random: &mut Random, count: usize) -> Vec<u32> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MIN];
    let mut draw = || match random.below(16) {
        0 => special[random.below(special.len())],
        _ => 8.0 * random.unit(),
    };
    (0..count).map(|_| draw().to_bits()).collect()
}

/// A wave with `rows` rows of logits.
fn wave_of(gpu: &Gpu, rows: usize) -> wgpu::Buffer {
    let logit_rows: Vec<u32> = (0..rows as u32).collect();
    wave(gpu, &WaveData { logit_rows: &logit_rows, ..WaveData::default() })
}

/// Numbers of rows and vocabularies: less than a workgroup, whole workgroups, and some more.
fn shapes(random: &mut Random) -> [(usize, usize); 4] {
    [(1, 1), (3, 512), (2, 1 + random.below(300)), (4, 1000 + random.below(1000))]
}

fn compile(gpu: &Gpu, vocabulary: usize, wgsl: &str, row_words: u32) -> Result<LogitsKernel, GpuError> {
    let shader = LogitsShader { wgsl: wgsl.to_owned(), row_words };
    pollster::block_on(LogitsKernel::compile(gpu, vocabulary as u32, &shader))
}

fn process(gpu: &Gpu, kernel: &LogitsKernel, buffers: &LogitsBuffers<'_>, rows: usize) {
    let mut commands = Commands::default();
    commands.dispatch(&kernel.bind(gpu, buffers), kernel.grid(rows as u32));
    commands.submit(gpu);
    assert_eq!(gpu.failure(), None);
}

/// Forbids every `row_data(row, 0)`th token, scales by a power of two, and adds a bias. With these scales a fused
/// multiply-add gives the same result.
const SNIPPET: &str = "
const BIASES: u32 = 7u;
fn process(row: u32, token: u32, logit: f32) -> f32 {
    let each = row_data(row, 0u);
    if (each == 0u) { return logit; }
    if (token % each == 0u) { return FORBIDDEN; }
    return logit * row_data_f32(row, 1u) + data_f32(token % BIASES);
}";

fn processed(bits: u32, token: usize, [each, scale]: [u32; 2], biases: &[f32]) -> f32 {
    let logit = f32::from_bits(bits);
    if logit == f32::NEG_INFINITY || each > 0 && token.is_multiple_of(each as usize) {
        return f32::NEG_INFINITY;
    }
    // Past the end of the data a bias is 0.
    let bias = biases.get(token % 7).copied().unwrap_or(0.0);
    let changed = if each == 0 { logit } else { logit * f32::from_bits(scale) + bias };
    if changed <= f32::MIN { f32::NEG_INFINITY } else { changed }
}

#[test]
fn a_snippet_changes_each_logit() {
    for gpu in devices() {
        let mut random = Random(21);
        for (rows, vocabulary) in shapes(&mut random) {
            // One row more than the wave has, which must not change.
            let before = logits(&mut random, (rows + 1) * vocabulary);
            let words: Vec<[u32; 2]> = (0..rows)
                .map(|_| [random.below(4) as u32, [0.5f32, 2.0, 1.0][random.below(3)].to_bits()])
                .collect();
            let biases = random.floats(4);
            let kernel = compile(&gpu, vocabulary, SNIPPET, 2).unwrap();
            let (wave, after) = (wave_of(&gpu, rows), buffer(&gpu, &before));
            let (row_data, data) = (buffer(&gpu, &words), buffer(&gpu, &biases));
            let buffers =
                LogitsBuffers { wave: &wave, logits: &after, row_data: Some(&row_data), data: Some(&data) };
            process(&gpu, &kernel, &buffers, rows + 1);
            let found: Vec<u32> = read(&gpu, &after, before.len());
            for (at, (found, before)) in found.iter().zip(&before).enumerate() {
                let (row, token) = (at / vocabulary, at % vocabulary);
                let Some(words) = words.get(row) else {
                    assert_eq!(found, before, "row {row} is none of the wave's");
                    continue;
                };
                let (found, wanted) = (f32::from_bits(*found), processed(*before, token, *words, &biases));
                // Kernels may compute anything from infinities and NaN, except that a forbidden token stays forbidden.
                let kept = f32::from_bits(*before);
                if kept.is_finite() || kept == f32::NEG_INFINITY {
                    assert_eq!(
                        found, wanted,
                        "row {row}, token {token} of {vocabulary}: {before:x}, {words:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn without_data_a_snippet_reads_zeros() {
    let wgsl = "fn process(row: u32, token: u32, logit: f32) -> f32 {
        return f32(row_data(row, 0u) + row_data(row, 9u) + data(0u) + data(1u << 31u)) + f32(token);
    }";
    for gpu in devices() {
        let kernel = compile(&gpu, 300, wgsl, 0).unwrap();
        let (wave, logits) = (wave_of(&gpu, 1), buffer(&gpu, &[1.0f32; 300]));
        let buffers = LogitsBuffers { wave: &wave, logits: &logits, row_data: None, data: None };
        process(&gpu, &kernel, &buffers, 1);
        let wanted: Vec<f32> = (0..300u16).map(f32::from).collect();
        assert_eq!(read::<f32>(&gpu, &logits, 300), wanted);
    }
}

#[test]
fn a_snippet_that_does_not_compile_is_an_error_and_the_device_works_on() {
    let sum = "fn process(row: u32, token: u32, logit: f32) -> f32 { return logit + 1.0; }";
    let deep = format!(
        "fn process(row: u32, token: u32, logit: f32) -> f32 {{ return {}1.0{}; }}",
        "(".repeat(20_000),
        ")".repeat(20_000)
    );
    let large = |declared: &str| {
        let wgsl =
            "fn process(row: u32, token: u32, logit: f32) -> f32 { return f32(arrayLength(&logits)); }";
        format!("{declared}\n{wgsl}")
    };
    let wrong = [
        ("", "process"),
        ("fn process(row: u32) -> f32 { return 0.0; }", ""),
        ("fn process(row: u32, token: u32, logit: f32) -> f32 {\n    return logit + nothing;\n}", "wgsl:2:"),
        ("not WGSL \u{0}\u{1f600}", "wgsl:1:"),
        ("fn main() {}\nfn process(row: u32, token: u32, logit: f32) -> f32 { return logit; }", "main"),
        (
            "@group(0) @binding(9) var<storage> more: array<f32>;
fn process(row: u32, token: u32, logit: f32) -> f32 { return more[token]; }",
            "",
        ),
        (&large("var<workgroup> large: array<f32, 100000000>;"), "larger than 16384 bytes"),
        (&large("var<private> large: array<vec4<f32>, 1025>;"), "larger than 16384 bytes"),
        (
            &large("var<private> large: array<f32, 3000>; var<private> more: array<f32, 3000>;"),
            "its variables take",
        ),
        (&large("override COUNT: u32 = 1u << 24u; var<workgroup> large: array<f32, COUNT>;"), "override"),
        (&deep, ""),
    ];
    for gpu in devices() {
        for (wgsl, named) in wrong {
            let error = compile(&gpu, 10, wgsl, 0).unwrap_err();
            let GpuError::Shader { reason, .. } = &error else { panic!("{error}") };
            assert!(reason.contains(named), "{named}: {reason}");
        }
        assert_eq!(gpu.failure(), None);
        assert_eq!(gpu.pipelines.len(), 0, "what does not compile is not kept");
        let kernel = compile(&gpu, 10, sum, 0).unwrap();
        let (wave, logits) = (wave_of(&gpu, 1), buffer(&gpu, &[1.0f32; 10]));
        let buffers = LogitsBuffers { wave: &wave, logits: &logits, row_data: None, data: None };
        process(&gpu, &kernel, &buffers, 1);
        assert_eq!(read::<f32>(&gpu, &logits, 10), [2.0; 10]);
    }
}

#[test]
fn a_mask_forbids_tokens() {
    for gpu in devices() {
        let mut random = Random(22);
        for (rows, vocabulary) in shapes(&mut random) {
            let mask = LogitsMask { vocabulary: vocabulary as u32 };
            let words = mask.row_words() as usize;
            assert_eq!(mask.bytes(rows as u32), 4 * (rows * vocabulary.div_ceil(32)) as u64);
            let before = logits(&mut random, (rows + 1) * vocabulary);
            let allowed: Vec<u32> = (0..(rows + 1) * words).map(|_| random.word() as u32).collect();
            let (wave, after) = (wave_of(&gpu, rows), buffer(&gpu, &before));
            let bits = buffer(&gpu, &allowed);
            run(&gpu, &mask.spec(), &[(0, &wave), (1, &after), (2, &bits)], mask.grid(rows as u32 + 1));
            let found: Vec<u32> = read(&gpu, &after, before.len());
            for (at, (found, before)) in found.iter().zip(&before).enumerate() {
                let (row, token) = (at / vocabulary, at % vocabulary);
                let is_allowed = row == rows || allowed[row * words + token / 32] >> (token % 32) & 1 == 1;
                let wanted = if is_allowed { *before } else { f32::NEG_INFINITY.to_bits() };
                assert_eq!(*found, wanted, "row {row}, token {token} of {vocabulary}");
            }
        }
    }
}

#[test]
fn sampling_chooses_among_allowed_tokens() {
    const VOCABULARY: usize = 100;
    for gpu in devices() {
        let wave = wave_of(&gpu, 2);
        let ascending: Vec<f32> = (0..2 * VOCABULARY).map(|i| (i % VOCABULARY) as f32).collect();
        let logits = buffer(&gpu, &ascending);
        let mask = LogitsMask { vocabulary: VOCABULARY as u32 };
        // In the first row token 40 is the last that is allowed, in the second none is.
        let words = buffer(&gpu, &[u32::MAX, 0x1ff, 0, 0, 0, 0, 0, 0]);
        run(&gpu, &mask.spec(), &[(0, &wave), (1, &logits), (2, &words)], mask.grid(2));
        let mut batch = SampleBatch::default();
        for _ in 0..2 {
            batch.push(&weft_components::SamplerSettings::default(), VOCABULARY, &[], || 0.0, u32::MAX);
        }
        let sampling = Sampling { vocabulary: VOCABULARY as u32 };
        let (records, none, ids) =
            (buffer(&gpu, batch.rows()), buffer(&gpu, &[0u32; 4]), buffer(&gpu, &[0u32; 2]));
        let partials = gpu.storage("partials", sampling.partial_bytes(2)).unwrap();
        let buffers =
            [(0, &wave), (1, &logits), (2, &records), (3, &none), (4, &ids), (5, &none), (6, &partials)];
        for step in batch.steps() {
            run(&gpu, &sampling.spec(&gpu.capabilities, step), &buffers, sampling.grid(step, 2));
        }
        assert_eq!(read::<u32>(&gpu, &ids, 2), [40, NO_TOKEN]);
    }
}
