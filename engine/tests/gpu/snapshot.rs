//! Snapshots with pages on a GPU: a session goes on there, on another device and on the CPU from the keys and values that
//! were computed, in every format of the KV cache.

use crate::common::gpu::{PATHS, exact, loaded_on, open, unharmed};
use crate::common::requests::asks;
use crate::common::{golden, golden_json, ids, synthetic_of, told};
use crate::snapshot::windowed;
use std::collections::BTreeMap;
use weft::{
    Engine, EngineOptions, GenerateOptions, GpuLayers, KvFormat, LoadOptions, ModelId, SamplerSettings,
    SessionId,
};

/// tiny-llama on a GPU, or on the CPU.
fn tiny(gpu: Option<bool>, kv_format: KvFormat) -> (Engine, ModelId) {
    let gpus: Vec<_> = gpu.map(|plain| open(&exact(plain))).into_iter().collect();
    let gpu_layers = if gpus.is_empty() { GpuLayers::Count(0) } else { GpuLayers::Auto };
    let load = LoadOptions { kv_format, gpu_layers, ..LoadOptions::default() };
    let path = golden("tiny/tiny-llama.gguf");
    loaded_on(path.as_path(), &EngineOptions::default(), gpus, &load)
}

fn said(engine: &mut Engine, session: SessionId, until: usize) -> Vec<u32> {
    while engine.phase(session).unwrap().is_active() && engine.output(session).unwrap().tokens.len() < until {
        engine.tick();
    }
    engine.output(session).unwrap().tokens.clone()
}

/// Logarithms of the probabilities of the next token, and the number of tokens of the context that were computed.
fn next(engine: &mut Engine, model: ModelId, session: SessionId) -> (BTreeMap<u32, f32>, u64) {
    let before = engine.prefix_stats(model).unwrap().prefilled_tokens;
    let sampler = SamplerSettings { logprobs: Some(20), ..SamplerSettings::default() };
    engine.generate(session, &GenerateOptions { sampler, ..asks(1) }).unwrap();
    engine.wait(session).unwrap();
    let computed = engine.prefix_stats(model).unwrap().prefilled_tokens - before;
    (engine.output(session).unwrap().logprobs[0].top.iter().copied().collect(), computed)
}

/// A snapshot of a session at rest, once nothing of the model is in progress.
fn snapshot(engine: &mut Engine, session: SessionId) -> Vec<u8> {
    for _ in 0..10 {
        engine.tick();
    }
    engine.snapshot(session, true).unwrap()
}

/// Mean difference of the logarithms of the tokens that are likely in both; 1 if they have few in common.
fn difference(here: &BTreeMap<u32, f32>, there: &BTreeMap<u32, f32>) -> f32 {
    let both = here.iter().filter_map(|(token, here)| Some((here - there.get(token)?).abs()));
    let differences: Vec<f32> = both.collect();
    if differences.len() < 16 { 1.0 } else { differences.iter().sum::<f32>() / differences.len() as f32 }
}

#[test]
fn a_session_goes_on_from_its_pages_on_gpus() {
    let prompt = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    for plain in PATHS {
        let (mut engine, model) = tiny(Some(plain), KvFormat::F16);
        let session = told(&mut engine, model, &prompt);
        engine.generate(session, &asks(60)).unwrap();
        said(&mut engine, session, 25);
        engine.pause(session).unwrap();
        let bytes = snapshot(&mut engine, session);
        engine.resume(session).unwrap();
        engine.wait(session).unwrap();
        let wanted = engine.output(session).unwrap().tokens.clone();
        let (mut other, to) = tiny(Some(plain), KvFormat::F16);
        for (engine, model) in [(&mut engine, model), (&mut other, to)] {
            let before = engine.prefix_stats(model).unwrap().prefilled_tokens;
            let restored = engine.restore(model, &bytes).unwrap();
            engine.resume(restored).unwrap();
            engine.wait(restored).unwrap();
            assert_eq!(engine.output(restored).unwrap().tokens, wanted, "plain {plain}");
            assert_eq!(engine.prefix_stats(model).unwrap().prefilled_tokens, before, "plain {plain}");
            unharmed(engine, model);
        }
    }
}

#[test]
fn pages_move_between_a_gpu_and_the_cpu_in_every_format() {
    let prompt = ids(&golden_json("tiny/tiny-llama.json")["tokens"]).repeat(4);
    for format in KvFormat::ALL {
        for [from, to] in [[Some(false), None], [None, Some(false)]] {
            let (mut engine, model) = tiny(from, format);
            let session = told(&mut engine, model, &prompt);
            engine.generate(session, &asks(3)).unwrap();
            engine.wait(session).unwrap();
            let bytes = snapshot(&mut engine, session);
            let (here, _) = next(&mut engine, model, session);
            let (mut engine, model) = tiny(to, format);
            let restored = engine.restore(model, &bytes).unwrap();
            let (there, computed) = next(&mut engine, model, restored);
            assert!(computed <= 1, "{format:?} from {from:?}: {computed} tokens were computed");
            // The devices compute with exact activations and sum in another order than the CPU.
            let found = difference(&here, &there);
            assert!(found < 1e-4, "{format:?} from {from:?}: {found}");
            // Keys and values do matter.
            let last = *engine.history(restored).unwrap().iter().nth_back(1).unwrap();
            let alone = told(&mut engine, model, &[last]);
            let apart = difference(&here, &next(&mut engine, model, alone).0);
            assert!(apart > 1e-2, "{format:?} without the context: {apart}");
            if to.is_some() {
                unharmed(&engine, model);
            }
        }
    }
}

#[test]
fn windows_and_odd_heads_move_too() {
    let shape = windowed(96);
    let open_model = |gpus: Vec<weft::Gpu>| {
        let gpu_layers = if gpus.is_empty() { GpuLayers::Count(0) } else { GpuLayers::Auto };
        let load = LoadOptions { kv_tokens: Some(2048), gpu_layers, ..LoadOptions::default() };
        loaded_on(synthetic_of("gemma3", &shape, "Q8_0"), &EngineOptions::default(), gpus, &load)
    };
    let prompt: Vec<u32> = (0..600).map(|at| (at * 37 % 300) as u32).collect();
    let (mut engine, model) = open_model(vec![open(&exact(false))]);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(3)).unwrap();
    engine.wait(session).unwrap();
    let bytes = snapshot(&mut engine, session);
    let (here, _) = next(&mut engine, model, session);
    for gpus in [vec![open(&exact(false))], vec![]] {
        let (mut engine, model) = open_model(gpus);
        let restored = engine.restore(model, &bytes).unwrap();
        let (there, computed) = next(&mut engine, model, restored);
        assert!(computed <= 1, "{computed} tokens were computed");
        // The CPU rounds activations to 8 bits.
        let found = difference(&here, &there);
        assert!(found < 0.05, "{found}");
    }
}
