//! Sessions that share waves on a GPU generate what they generate alone.

use crate::common::company::{SESSIONS, prompts, say_together, says_alone};
use crate::common::gpu::{Judge, PATHS, asked, on_exact_gpu, on_gpu, on_gpu_unharmed};
use crate::common::reference::CLEAR_TINY;
use crate::common::{golden, golden_json, ids, loaded_with, smollm2};
use weft::{Engine, GenerateOptions, ModelId};

fn in_chunks(chunk: usize) -> GenerateOptions {
    GenerateOptions { prefill_chunk: chunk, ..asked() }
}

/// The answers of sixteen sessions, each alone, on a GPU that does not round activations. Waves of different sizes then
/// differ only in the order of sums. Asserts that the sessions give the same answers together, in chunks of any size.
fn say_the_same_together(engine: &mut Engine, model: ModelId, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let alone: Vec<_> = prompts.iter().map(|prompt| says_alone(engine, model, prompt, &asked())).collect();
    for chunk in [1, 512] {
        let said = say_together(engine, model, prompts, |_| in_chunks(chunk));
        assert_eq!(said, alone, "chunks of {chunk}");
    }
    // Chunks of different sizes at once, between those two.
    assert_eq!(say_together(engine, model, prompts, |n| in_chunks(1 + 3 * n)), alone);
    on_gpu_unharmed(engine, model);
    alone
}

fn sixteen_prompts(engine: &Engine, model: ModelId) -> Vec<Vec<u32>> {
    let base = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let mut prompts = prompts(engine.config(model).unwrap().vocabulary, &base);
    // Longer than a window, and with the answer of some longer than a page.
    prompts.iter_mut().for_each(|prompt| prompt.truncate(26));
    prompts
}

fn sixteen_sessions(name: &str) {
    let path = golden(&format!("tiny/{name}.gguf"));
    let mut judge = Judge::in_halves(&*path, CLEAR_TINY);
    for plain in PATHS {
        let (mut engine, model) = loaded_with(&path, &on_exact_gpu(plain));
        let prompts = sixteen_prompts(&engine, model);
        let alone = say_the_same_together(&mut engine, model, &prompts);
        for (n, (prompt, answer)) in prompts.iter().zip(&alone).enumerate() {
            judge.check(prompt, answer, &format!("session {n}, plain {plain}"));
        }
    }
}

#[test]
fn sixteen_sessions_say_what_they_say_alone() {
    sixteen_sessions("tiny-llama");
}

#[test]
fn sixteen_sessions_with_windows() {
    sixteen_sessions("tiny-gemma3");
}

#[test]
fn sixteen_sessions_with_experts() {
    sixteen_sessions("tiny-qwen2moe");
}

#[test]
fn sixteen_sessions_with_quantized_weights() {
    let (mut engine, model) = loaded_with(&golden("tiny/tiny-llama-q4_0.gguf"), &on_exact_gpu(false));
    let prompts = sixteen_prompts(&engine, model);
    say_the_same_together(&mut engine, model, &prompts);
}

/// On the featured path, waves of a few rows round activations to 8 bits and others do not. Where that decides between
/// two tokens, other sessions in the wave may change the answer. So each step is judged.
fn smollm2_in_company(plain: bool, generated: usize) {
    let base = ids(&golden_json("smollm2/prompt4.json")["tokens"]);
    let (mut engine, model) = loaded_with(&smollm2(), &on_gpu(plain));
    let prompts = prompts(engine.config(model).unwrap().vocabulary, &base);
    let chunks = [1, 7, 512];
    let options = |n: usize| GenerateOptions { max_tokens: Some(generated), ..in_chunks(chunks[n % 3]) };
    let said = say_together(&mut engine, model, &prompts, options);
    let alone: Vec<_> = (0..2).map(|n| says_alone(&mut engine, model, &prompts[n], &options(n))).collect();
    on_gpu_unharmed(&engine, model);
    drop(engine);
    let mut judge = Judge::smollm2();
    assert_eq!(said.len(), SESSIONS);
    for (n, (prompt, answer)) in prompts.iter().zip(&said).enumerate() {
        assert_eq!(answer.len(), generated);
        judge.check(prompt, answer, &format!("session {n}, plain {plain}"));
    }
    for (n, (prompt, answer)) in prompts.iter().zip(&alone).enumerate() {
        judge.check(prompt, answer, &format!("session {n}, plain {plain}, alone"));
    }
    let same = alone.iter().zip(&said).filter(|(alone, said)| alone == said).count();
    println!("plain {plain}: {same} of 2 answers are the same to the last token");
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn sixteen_sessions_of_smollm2() {
    smollm2_in_company(false, 8);
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn sixteen_sessions_of_smollm2_on_the_plain_path() {
    smollm2_in_company(true, 3);
}
