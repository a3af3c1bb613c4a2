//! Formats of the KV cache on a GPU: logits are the CPU's in the same format, and memory is what the format says.

use crate::common::gpu::{PATHS, device, loaded_on, on_gpu_unharmed, open};
use crate::common::{divergence, golden, golden_json, ids, logits};
use weft::{Engine, EngineOptions, FitOptions, Gpu, GpuLayers, KvFormat, LoadOptions, PreparedModel};

/// Sums in another order round a code or an f16 the other way now and then. Found: 2e-13 to 1e-9.
const MOST_DIVERGENCE: f64 = 1e-7;
/// Tokens of the KV cache.
const TOKENS: usize = 256;

fn load(kv_format: KvFormat) -> LoadOptions {
    LoadOptions { kv_format, kv_tokens: Some(TOKENS), ..LoadOptions::default() }
}

/// Rows of logits of a model's golden tokens. Chunks of one row use the kernels of decoding, a whole prompt those of
/// prompts.
fn rows(name: &str, kv_format: KvFormat, gpus: Vec<Gpu>, chunk: usize) -> Vec<Vec<f32>> {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let path = golden(&format!("tiny/{name}.gguf"));
    let on_gpu = !gpus.is_empty();
    let (mut engine, model) = loaded_on(&*path, &EngineOptions::default(), gpus, &load(kv_format));
    let rows = logits(&mut engine, model, &tokens, &positions, chunk);
    if on_gpu {
        on_gpu_unharmed(&engine, model);
    }
    rows
}

fn mean_divergence(wanted: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
    let sum: f64 = wanted.iter().zip(found).map(|(wanted, found)| divergence(wanted, found)).sum();
    sum / wanted.len() as f64
}

/// Asserts that a GPU's logits are the CPU's in the same format, far closer than the format is to f16.
fn like_the_cpu(kv_format: KvFormat, names: &[&str]) {
    for name in names {
        let wanted = rows(name, kv_format, Vec::new(), 0);
        let halves = rows(name, KvFormat::F16, Vec::new(), 0);
        let apart = mean_divergence(&halves, &wanted);
        for plain in PATHS {
            for chunk in [1, 0] {
                let found = rows(name, kv_format, vec![open(&device(plain))], chunk);
                let mean = mean_divergence(&wanted, &found);
                println!(
                    "{name} in {kv_format:?}, plain {plain}, chunks of {chunk}: mean KL from the CPU {mean:.2e}; \
                     the CPU's f16 is {apart:.2e} from it"
                );
                assert!(
                    mean < MOST_DIVERGENCE && (kv_format == KvFormat::F16 || mean < 1e-2 * apart),
                    "{name}, plain {plain}, {chunk}: {mean:.2e}"
                );
            }
        }
    }
}

#[test]
fn eight_bits_say_what_they_say_on_the_cpu() {
    // A plain layer, norms of heads, and windows and caps.
    like_the_cpu(KvFormat::Q8_0, &["tiny-llama", "tiny-qwen3", "tiny-gemma2"]);
}

#[test]
fn floats_say_what_they_say_on_the_cpu() {
    like_the_cpu(KvFormat::F32, &["tiny-llama"]);
}

#[test]
fn sixteen_bits_say_what_they_say_on_the_cpu() {
    like_the_cpu(KvFormat::F16, &["tiny-llama"]);
}

#[test]
fn memory_is_what_the_format_says() {
    let path = golden("tiny/tiny-llama.gguf");
    let mut found = Vec::new();
    // Heads of 16 elements: the scale of a block takes a word.
    for (kv_format, head) in [(KvFormat::F16, 32), (KvFormat::F32, 64), (KvFormat::Q8_0, 20)] {
        let mut engine = Engine::with_gpus(&EngineOptions::default(), vec![open(&device(false))]).unwrap();
        let prepared = PreparedModel::read(&*path, &load(kv_format)).unwrap();
        let options = FitOptions {
            kv_tokens: Some(TOKENS),
            kv_format: Some(kv_format),
            gpu_layers: GpuLayers::Auto,
            ..FitOptions::default()
        };
        let fit = engine.fit(&prepared, &options).unwrap();
        let planned: u64 = fit.places.iter().map(|place| place.need.kv).sum();
        let model = engine.load(&*path, &load(kv_format)).unwrap();
        engine.wait_loaded(model).unwrap();
        let config = engine.config(model).unwrap();
        assert_eq!((config.key_length, config.value_length), (16, 16));
        let wanted = config.layers * config.kv_heads * 2 * TOKENS * head;
        assert_eq!(planned, wanted as u64, "{kv_format:?}");
        let taken = engine.gpu_shards(model)[0].gpu.allocated().bytes;
        found.push((planned, taken));
    }
    // Nothing else depends on the format.
    assert!(found.iter().all(|(planned, taken)| taken - planned == found[0].1 - found[0].0), "{found:?}");
}
