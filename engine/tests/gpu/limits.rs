//! Devices with tight limits: matrices in several buffers, prompts in several submits, and the same results.

use crate::common::company::{prompts, say_together};
use crate::common::gpu::{Judge, PATHS, asked, device, loaded_on, on_gpu_unharmed, open};
use crate::common::reference::{MOST_DIVERGENCE, smollm2_agrees};
use crate::common::requests::asks;
use crate::common::{divergence, golden, golden_json, ids, logits, smollm2, synthetic, told};
use std::time::Duration;
use weft::synth::SynthShape;
use weft::{Engine, EngineOptions, Gpu, GpuOptions, KeepLogits, LoadOptions, ModelId};

/// A device with this maximum binding size in bytes.
fn narrow(plain: bool, max_binding: u64) -> Gpu {
    let mut gpu = open(&device(plain));
    gpu.capabilities.max_binding = max_binding;
    gpu
}

/// Options for waves of this many rows and a KV cache of this many tokens, so that buffers which cannot be split stay
/// small.
fn small(max_rows: usize, kv_tokens: usize) -> (EngineOptions, LoadOptions) {
    let options = EngineOptions { max_rows: Some(max_rows), ..EngineOptions::default() };
    (options, LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() })
}

#[test]
fn matrices_in_several_buffers_give_the_same_logits() {
    // Rows have at most 2,048 half floats, so 256 of them or more fit into 1.2 MiB, and the sums of split contexts into
    // 1.1 MiB.
    const LIMIT: u64 = 1200 << 10;
    let shape = SynthShape {
        layers: 2,
        embedding: 2048,
        feed_forward: 1024,
        heads: 8,
        kv_heads: 2,
        key_length: Some(32),
        vocabulary: 700,
        tied: false,
        ..SynthShape::default()
    };
    let tokens: Vec<u32> = (0..40).map(|i| (i * 37) % 700).collect();
    let positions: Vec<usize> = (0..tokens.len()).step_by(3).collect();
    let (options, load) = small(32, 1024);
    for format in ["bf16", "q8_0"] {
        for plain in PATHS {
            let source = || synthetic(&shape, format);
            let (mut whole, model) = loaded_on(source(), &options, vec![open(&device(plain))], &load);
            let (mut cut, cut_model) = loaded_on(source(), &options, vec![narrow(plain, LIMIT)], &load);
            let taken = |engine: &Engine, model: ModelId| engine.gpu_shards(model)[0].gpu.allocated().buffers;
            assert!(taken(&cut, cut_model) > taken(&whole, model) + 10, "nothing was cut");
            for (chunk, told) in [(1, 4), (3, 7), (0, tokens.len())] {
                let (tokens, positions) = (&tokens[..told], &positions[..told.div_ceil(3)]);
                let wanted = logits(&mut whole, model, tokens, positions, chunk);
                let found = logits(&mut cut, cut_model, tokens, positions, chunk);
                for (row, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                    let divergence = divergence(wanted, found);
                    // A split norm or rotation uses another kernel, whose sums have another order.
                    assert!(
                        divergence < MOST_DIVERGENCE,
                        "{format}, plain {plain}, chunks of {chunk}, row {row}: {divergence:.2e}"
                    );
                }
            }
            on_gpu_unharmed(&whole, model);
            on_gpu_unharmed(&cut, cut_model);
        }
    }
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_with_its_embedding_and_head_in_several_buffers() {
    const LIMIT: u64 = 4 << 20;
    let (options, load) = small(128, 1024);
    let path = smollm2();
    let (mut engine, model) = loaded_on(path.as_path(), &options, vec![narrow(false, LIMIT)], &load);
    smollm2_agrees(&mut engine, model, &[2]);
    on_gpu_unharmed(&engine, model);
}

#[test]
fn a_device_that_cannot_hold_a_buffer_says_which() {
    let (options, load) = small(32, 1024);
    let mut engine = Engine::with_gpus(&options, vec![narrow(false, 64 << 10)]).unwrap();
    let error = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("bytes") && text.contains("65536"), "{text}");
}

#[test]
fn a_device_with_eight_storage_buffers() {
    // The minimum that WebGPU guarantees. RoPE is then a kernel of its own.
    for plain in PATHS {
        let mut gpu = open(&device(plain));
        gpu.capabilities.storage_buffers = 8;
        let path = golden("tiny/tiny-llama.gguf");
        let (mut engine, model) =
            loaded_on(path.as_path(), &EngineOptions::default(), vec![gpu], &LoadOptions::default());
        crate::common::reference::tiny_agrees_on("tiny-llama", &mut engine, model);
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn a_prompt_in_several_submits_gives_the_same_logits() {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]).repeat(16);
    let positions: Vec<usize> = (0..tokens.len()).step_by(11).collect();
    for plain in PATHS {
        let with_budget = |submit: Option<Duration>| {
            let gpu = open(&GpuOptions { submit, ..device(plain) });
            let path = golden("tiny/tiny-llama.gguf");
            let options = EngineOptions::default();
            loaded_on(path.as_path(), &options, vec![gpu], &LoadOptions::default())
        };
        let (mut whole, model) = with_budget(Some(Duration::from_secs(600)));
        // The first wave of many rows is timed one layer per submit. After it, the whole prompt is one submit.
        let _ = logits(&mut whole, model, &tokens, &[0], 0);
        let submits = |engine: &Engine, model: ModelId| engine.gpu_shards(model)[0].counters().submits;
        let before = submits(&whole, model);
        let wanted = logits(&mut whole, model, &tokens, &positions, 0);
        let rounds = submits(&whole, model) - before;
        let (mut cut, cut_model) = with_budget(Some(Duration::from_nanos(1)));
        for _ in 0..3 {
            let before = submits(&cut, cut_model);
            let found = logits(&mut cut, cut_model, &tokens, &positions, 0);
            let more = submits(&cut, cut_model) - before;
            println!("plain {plain}: {more} submits instead of {rounds}");
            assert!(more >= 3 * rounds, "{more} submits, {rounds} without a budget");
            for (row, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let divergence = divergence(wanted, found);
                assert!(divergence < MOST_DIVERGENCE, "plain {plain}, row {row}: {divergence:.2e}");
            }
        }
        on_gpu_unharmed(&whole, model);
        on_gpu_unharmed(&cut, cut_model);
    }
}

#[test]
fn a_budget_that_nothing_meets_slows_and_stops_nobody() {
    let gpu = open(&GpuOptions { submit: Some(Duration::from_nanos(1)), ..device(false) });
    let path = golden("tiny/tiny-llama.gguf");
    let options = EngineOptions::default();
    let (mut engine, model) = loaded_on(path.as_path(), &options, vec![gpu], &LoadOptions::default());
    let base = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let prompts = prompts(engine.config(model).unwrap().vocabulary, &base.repeat(4));
    let mut judge = Judge::tiny();
    let said = say_together(&mut engine, model, &prompts, |_| asked());
    for (n, (prompt, answer)) in prompts.iter().zip(&said).enumerate() {
        judge.check(prompt, answer, &format!("session {n}"));
    }
    let session = told(&mut engine, model, &base.repeat(20));
    engine.generate(session, &asks(4)).unwrap();
    engine.wait(session).unwrap();
    on_gpu_unharmed(&engine, model);
}

#[test]
fn as_many_rows_of_logits_as_fit_come_back() {
    // A buffer holds 256 rows of logits. With the tokens that are read back too, the readback payload is larger.
    const VOCABULARY: usize = 4096;
    const LIMIT: u64 = 256 * VOCABULARY as u64 * 4;
    let shape = SynthShape { layers: 1, vocabulary: VOCABULARY, ..SynthShape::default() };
    let (options, load) = small(256, 1024);
    let mut gpu = narrow(false, LIMIT);
    gpu.capabilities.max_buffer = LIMIT;
    let (mut engine, model) = loaded_on(synthetic(&shape, "bf16"), &options, vec![gpu], &load);
    let tokens: Vec<u32> = (0..64).map(|i| i * 61).collect();
    let sessions: Vec<_> = (0..4).map(|_| told(&mut engine, model, &tokens)).collect();
    for session in &sessions {
        engine.ask_logits(*session, (0..tokens.len()).collect(), KeepLogits::Row, 0).unwrap();
    }
    let wanted = logits(&mut engine, model, &tokens, &[0, 31, 63], 0);
    for session in sessions {
        engine.wait(session).unwrap();
        let rows = engine.take_logits(session).unwrap().rows;
        for (row, position) in wanted.iter().zip([0, 31, 63]) {
            assert!(divergence(row, &rows[position]) < MOST_DIVERGENCE);
        }
    }
    on_gpu_unharmed(&engine, model);
}
