//! One model on one GPU: logits and texts equal those of the reference and of the CPU.

use crate::common::gpu::{PATHS, device, on_gpu, on_gpu_unharmed, open};
use crate::common::reference::{
    HfDifference, MOST_DIFFERENCE, MOST_DIVERGENCE, PROMPTS, format_divergence, hf_difference,
    smollm2_agrees, smollm2_perplexity, tiny_agrees_on,
};
use crate::common::{divergence, golden, golden_json, ids, loaded, loaded_with, logits, smollm2};
use weft::{Engine, EngineOptions, GpuLayers, KvFormat, LoadOptions};

fn tiny(name: &str) {
    for plain in PATHS {
        let (mut engine, model) = loaded_with(&golden(&format!("tiny/{name}.gguf")), &on_gpu(plain));
        let most = tiny_agrees_on(name, &mut engine, model);
        println!("{name}, plain {plain}: KL {most:.2e} at most");
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn llama() {
    tiny("tiny-llama");
}

#[test]
fn llama31_with_rope_factors_and_a_tied_head() {
    tiny("tiny-llama31");
}

#[test]
fn mistral_with_one_kv_head() {
    tiny("tiny-mistral");
}

#[test]
fn phi3_with_halves_that_turn_together() {
    tiny("tiny-phi3");
}

#[test]
fn phi3_with_long_factors_and_a_magnitude() {
    tiny("tiny-phi3-long");
}

#[test]
fn qwen2_with_biases() {
    tiny("tiny-qwen2");
}

#[test]
fn qwen3_with_normed_heads() {
    tiny("tiny-qwen3");
}

#[test]
fn gemma2_with_caps_windows_and_norms_behind_blocks() {
    tiny("tiny-gemma2");
}

#[test]
fn gemma3_with_local_and_global_layers() {
    tiny("tiny-gemma3");
}

#[test]
fn mixtral_with_experts() {
    tiny("tiny-mixtral");
}

#[test]
fn qwen2moe_with_a_shared_expert() {
    tiny("tiny-qwen2moe");
}

#[test]
fn qwen3moe_with_normed_heads_and_experts() {
    tiny("tiny-qwen3moe");
}

#[test]
fn bitnet_with_scales_and_norms_within_blocks() {
    for name in ["tiny-bitnet", "tiny-bitnet-tq1"] {
        tiny(name);
    }
}

/// Compares with transformers, which does not round keys and values. With a KV cache of 32-bit floats, a GPU has to be as
/// close as the CPU. With one of 16 bits it may be as far off as the CPU is with that rounding. Cooperative matrices also
/// round activations to 16 bits, as llama.cpp does; they have to meet the tolerance of its references.
fn hf(names: &[&str]) {
    let mut wrong = Vec::new();
    for name in names {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let halves = hf_difference(name, &mut engine, KvFormat::F16).largest;
        for plain in PATHS {
            let ways = [(KvFormat::F16, false), (KvFormat::F16, true), (KvFormat::F32, false)];
            for (kv_format, cooperative) in ways {
                let mut gpu = open(&device(plain));
                if cooperative && !gpu.capabilities.cooperative {
                    continue;
                }
                gpu.capabilities.cooperative = cooperative;
                let mut engine = Engine::with_gpus(&on_gpu(plain), vec![gpu]).unwrap();
                let found = hf_difference(name, &mut engine, kv_format);
                let HfDifference { largest, divergence, model } = found;
                println!(
                    "{name} in {kv_format:?}, plain {plain}, cooperative {cooperative}: {largest:.2e} of the largest logit, the CPU {halves:.2e}, \
                     KL {divergence:.2e}"
                );
                on_gpu_unharmed(&engine, model);
                let near = match (kv_format, cooperative) {
                    (_, true) => divergence < MOST_DIVERGENCE,
                    (KvFormat::F32, _) => largest <= MOST_DIFFERENCE,
                    _ => largest <= MOST_DIFFERENCE.max(1.1 * halves),
                };
                if !near {
                    wrong.push((name, kv_format, plain, cooperative, largest, divergence));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn transformers_llamas() {
    hf(&["llama", "llama3", "llama-linear", "llama-yarn", "mistral", "smollm3", "granite", "olmo2"]);
}

#[test]
fn transformers_llama_with_a_bias_at_every_product() {
    hf(&["llama-bias"]);
}

#[test]
fn transformers_phis_and_qwens() {
    hf(&["phi3", "phi3-longrope", "phi3-longrope-short", "qwen2", "qwen2-yarn", "qwen2-yarn-betas", "qwen3"]);
}

#[test]
fn transformers_gemmas() {
    hf(&["gemma", "gemma2", "gemma3"]);
}

#[test]
fn transformers_experts_and_bitnet() {
    hf(&["mixtral", "granitemoe", "qwen2moe", "qwen3moe", "bitnet", "bitnet-b1.58"]);
}

/// Waves of few rows use other kernels than prompts. Asserts that they give the CPU's logits for any chunk size.
fn like_the_cpu(name: &str) {
    let path = golden(&format!("tiny/{name}.gguf"));
    let tokens = ids(&golden_json("tiny/tiny-qwen3moe.json")["tokens"]);
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let (mut engine, model) = loaded(&path);
    let wanted = logits(&mut engine, model, &tokens, &positions, 0);
    // Quantized weights are multiplied by 8-bit activations, which the CPU rounds in its own way. The tolerance is what
    // tiny-llama-q4_0 loses by that.
    let codes = name.contains("bitnet") || name.contains("q4_0");
    for plain in PATHS {
        let (mut engine, model) = loaded_with(&path, &on_gpu(plain));
        for chunk in CHUNKS {
            let rows = logits(&mut engine, model, &tokens, &positions, chunk);
            let sum: f64 = rows.iter().zip(&wanted).map(|(row, wanted)| divergence(wanted, row)).sum();
            let mean = sum / rows.len() as f64;
            println!("{name}, plain {plain}, chunks of {chunk}: mean KL from the CPU {mean:.2e}");
            assert!(
                mean < if codes { 2e-2 } else { MOST_DIVERGENCE },
                "{name}, plain {plain}, {chunk}: {mean:.2e}"
            );
        }
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn layers_with_windows_caps_and_norms_say_what_the_cpu_says_whatever_the_chunks() {
    for name in ["tiny-gemma2", "tiny-gemma3", "tiny-qwen2", "tiny-phi3-long", "tiny-bitnet"] {
        like_the_cpu(name);
    }
}

#[test]
fn experts_say_what_the_cpu_says_whatever_the_chunks() {
    for name in ["tiny-qwen2moe", "tiny-qwen3moe", "tiny-mixtral", "tiny-mixtral-q4_0"] {
        like_the_cpu(name);
    }
}

/// The last layers on a GPU and the first on the CPU: both apply their scales, caps and experts.
#[test]
fn layers_of_every_kind_are_shared_with_the_cpu() {
    for name in ["tiny-gemma2", "tiny-gemma3", "tiny-qwen2moe", "tiny-bitnet"] {
        let mut engine = Engine::new(&on_gpu(false)).unwrap();
        let load = LoadOptions { gpu_layers: GpuLayers::Count(1), ..LoadOptions::default() };
        let model = engine.load(&*golden(&format!("tiny/{name}.gguf")), &load).unwrap();
        engine.wait_loaded(model).unwrap();
        tiny_agrees_on(name, &mut engine, model);
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn float_weights_meet_exact_activations() {
    for plain in PATHS {
        for format in ["f32", "bf16"] {
            let (mean, _) = format_divergence(format, &on_gpu(plain));
            assert!(mean < MOST_DIVERGENCE, "{format}, plain {plain}: {mean:.2e}");
        }
    }
}

/// Chunks of one row use the kernels of decoding, with 8-bit activations if the device multiplies those fast. A whole
/// prompt uses the kernels of prompts.
const CHUNKS: [usize; 3] = [1, 4, 0];

#[test]
fn quantized_weights_cost_no_more_than_they_cost_llama_cpp() {
    for plain in PATHS {
        for format in ["q8_0", "q4_0", "q4_1"] {
            // With float activations, as in a whole prompt, the result differs from the exact one only in the order of
            // sums.
            let (mean, _) = format_divergence(format, &on_gpu(plain));
            assert!(mean < MOST_DIVERGENCE, "{format}, plain {plain}: {mean:.2e}");
        }
    }
}

#[test]
fn every_format_says_what_the_cpu_says_whatever_the_chunks() {
    for format in ["f32", "bf16", "q8_0", "q4_0", "q4_1"] {
        let path = golden(&format!("tiny/tiny-llama-{format}.gguf"));
        let reference = golden_json(&format!("tiny/tiny-llama-{format}.json"));
        let tokens = ids(&reference["tokens"]);
        let positions: Vec<usize> = (0..tokens.len()).collect();
        let (mut engine, model) = loaded(&path);
        let wanted = logits(&mut engine, model, &tokens, &positions, 0);
        // Both sides round activations to 8 bits, each in its own way. The tolerance is llama.cpp's loss by that,
        // counted for both sides.
        let rounding = 4.0 * reference["divergence"].as_f64().unwrap();
        for plain in PATHS {
            let (mut engine, model) = loaded_with(&path, &on_gpu(plain));
            for chunk in CHUNKS {
                let rows = logits(&mut engine, model, &tokens, &positions, chunk);
                let sum: f64 = rows.iter().zip(&wanted).map(|(row, wanted)| divergence(wanted, row)).sum();
                let mean = sum / rows.len() as f64;
                println!("{format}, plain {plain}, chunks of {chunk}: mean KL from the CPU {mean:.2e}");
                assert!(mean < rounding.max(MOST_DIVERGENCE), "{format}, plain {plain}, {chunk}: {mean:.2e}");
            }
            on_gpu_unharmed(&engine, model);
        }
    }
}

/// The real model once; further tests of it are slow on a software GPU.
#[test]
fn smollm2_answers_a_prompt_as_the_reference_does() {
    let (mut engine, model) = loaded_with(&smollm2(), &on_gpu(false));
    smollm2_agrees(&mut engine, model, &[2]);
    on_gpu_unharmed(&engine, model);
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_says_what_the_reference_says() {
    let (mut engine, model) = loaded_with(&smollm2(), &on_gpu(false));
    smollm2_agrees(&mut engine, model, &PROMPTS);
    on_gpu_unharmed(&engine, model);
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_says_it_on_the_plain_path() {
    let (mut engine, model) = loaded_with(&smollm2(), &on_gpu(true));
    // Only two of the prompts, since a software driver is slow.
    smollm2_agrees(&mut engine, model, &PROMPTS[..2]);
    on_gpu_unharmed(&engine, model);
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_has_the_reference_s_perplexity() {
    smollm2_perplexity(&on_gpu(false));
}
