//! A lost device: sessions continue from their token histories, on a reopened device or, if it keeps failing, on the
//! CPU.

use crate::common::company::{end, say_together, says_alone, start_with};
use crate::common::gpu::{
    DeviceEvents, Judge, PATHS, exact, loaded_on, on_exact_gpu, on_gpu_unharmed, open, run_all, step,
};
use crate::common::requests::{asks, tiny};
use crate::common::{golden, golden_json, greedy, ids, loaded_with, logits, smollm2, throttled, told};
use weft::DeviceEventKind::{OnCpu, Rebuilt};
use weft::components::ContextCursor;
use weft::{
    Engine, EngineOptions, FinishReason, GenerateOptions, KeepLogits, LoadOptions, ModelId, Phase,
    SamplerSettings, SessionId,
};

/// Destroys the device of one of a model's GPU shards, as a driver reset would.
fn lose(engine: &Engine, model: ModelId, part: usize) {
    engine.gpu_shards(model)[part].gpu.device.destroy();
}

/// Runs sessions to their ends. Destroys a device the first time that `when` returns true; it is called with the number
/// of tokens generated so far.
fn run_and_lose(
    engine: &mut Engine,
    sessions: &[SessionId],
    (model, part): (ModelId, usize),
    when: impl Fn(&Engine, usize) -> bool,
) -> DeviceEvents {
    let mut lost = false;
    let told = run_all(engine, sessions, |engine, said| {
        if !lost && when(engine, said) {
            lose(engine, model, part);
            lost = true;
        }
    });
    assert!(lost);
    told
}

/// Number of tokens in a session's context that have been computed.
fn computed(engine: &Engine, session: SessionId) -> usize {
    engine.world().get::<ContextCursor>(session.0).unwrap().computed
}

/// Requests of four kinds: greedy, sampled on the device, sampled on the host, with penalties.
fn kinds(count: usize) -> Vec<GenerateOptions> {
    let drawn = SamplerSettings { temperature: 0.9, seed: 3, ..SamplerSettings::default() };
    let samplers = [
        SamplerSettings::default(),
        SamplerSettings { top_k: 30, ..drawn.clone() },
        drawn.clone(),
        SamplerSettings { top_p: 0.9, ..drawn.clone() },
        SamplerSettings { repetition_penalty: 1.2, penalty_last_n: 16, ..drawn },
    ];
    samplers.into_iter().map(|sampler| GenerateOptions { sampler, ..asks(count) }).collect()
}

fn started(engine: &mut Engine, model: ModelId, tokens: &[u32], kinds: &[GenerateOptions]) -> Vec<SessionId> {
    kinds.iter().map(|options| start_with(engine, model, tokens, options)).collect()
}

fn said(engine: &Engine, sessions: &[SessionId]) -> Vec<Vec<u32>> {
    sessions.iter().map(|session| engine.output(*session).unwrap().tokens.clone()).collect()
}

#[test]
fn sessions_that_decode_go_on_from_their_histories() {
    for plain in PATHS {
        let (mut engine, model, tokens) = tiny(&on_exact_gpu(plain));
        let kinds = kinds(16);
        let wanted: Vec<_> =
            kinds.iter().map(|options| says_alone(&mut engine, model, &tokens, options)).collect();
        let sessions = started(&mut engine, model, &tokens, &kinds);
        let told = run_and_lose(&mut engine, &sessions, (model, 0), |_, said| said >= 40);
        assert_eq!(said(&engine, &sessions), wanted, "plain {plain}");
        assert_eq!(told.kinds, [Rebuilt], "plain {plain}");
        on_gpu_unharmed(&engine, model);
        // The same device serves new requests.
        assert_eq!(says_alone(&mut engine, model, &tokens, &kinds[1]), wanted[1]);
    }
}

#[test]
fn a_prompt_on_its_way_goes_through_again() {
    for plain in PATHS {
        let options = EngineOptions { max_rows: Some(16), ..on_exact_gpu(plain) };
        let (mut engine, model, tokens) = tiny(&options);
        let long = tokens.repeat(10);
        let wanted = greedy(&mut engine, model, &long, 12);
        let beside = greedy(&mut engine, model, &tokens, 30);
        let decoding = start_with(&mut engine, model, &tokens, &asks(30));
        let prefilling = start_with(&mut engine, model, &long, &asks(12));
        let told = run_and_lose(&mut engine, &[decoding, prefilling], (model, 0), |engine, _| {
            let part = computed(engine, prefilling) > long.len() / 3;
            assert!(!part || engine.phase(prefilling).unwrap() == Phase::Prefilling);
            part
        });
        assert_eq!(said(&engine, &[prefilling, decoding]), [wanted, beside], "plain {plain}");
        assert_eq!(told.kinds, [Rebuilt]);
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn logits_that_were_asked_for_are_the_undisturbed_ones() {
    let options = EngineOptions { max_rows: Some(16), ..on_exact_gpu(false) };
    let (mut engine, model, tokens) = tiny(&options);
    let long = tokens.repeat(6);
    let positions: Vec<usize> = (0..long.len()).step_by(5).collect();
    let wanted = logits(&mut engine, model, &long, &positions, 0);
    let session = told(&mut engine, model, &long);
    engine.ask_logits(session, positions.clone(), KeepLogits::Row, 0).unwrap();
    let half = long.len() / 2;
    run_and_lose(&mut engine, &[session], (model, 0), |engine, _| computed(engine, session) > half);
    assert!(engine.take_logits(session).unwrap().rows == wanted);
    on_gpu_unharmed(&engine, model);
}

#[test]
fn a_device_that_keeps_failing_is_given_up() {
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    let kinds = kinds(32);
    let wanted: Vec<_> =
        kinds.iter().map(|options| says_alone(&mut engine, model, &tokens, options)).collect();
    let sessions = started(&mut engine, model, &tokens, &kinds);
    let mut losses = 0;
    let told = run_all(&mut engine, &sessions, |engine, said| {
        if said >= 40 * (losses + 1) && !engine.gpu_shards(model).is_empty() {
            lose(engine, model, 0);
            losses += 1;
        }
    });
    assert_eq!(told.kinds, [Rebuilt, Rebuilt, OnCpu]);
    assert!(engine.gpu_shards(model).is_empty(), "the model is on the CPU");
    assert_eq!(said(&engine, &sessions), wanted);
    let reference = golden_json("tiny/tiny-llama.json");
    let greedy_text = ids(&reference["greedy"]);
    assert_eq!(greedy(&mut engine, model, &tokens, greedy_text.len()), greedy_text);
    // Another model of the same engine does not depend on the abandoned device.
    let other = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    assert_eq!(greedy(&mut engine, other, &tokens, greedy_text.len()), greedy_text);
}

#[test]
fn a_device_lost_at_rest_is_found_by_the_next_request() {
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    let session = start_with(&mut engine, model, &tokens, &asks(8));
    engine.wait(session).unwrap();
    let first = engine.output(session).unwrap().tokens.clone();
    for _ in 0..5 {
        engine.tick();
    }
    lose(&engine, model, 0);
    for _ in 0..5 {
        engine.tick();
    }
    engine.generate(session, &asks(8)).unwrap();
    let told = run_all(&mut engine, &[session], |_, _| {});
    assert_eq!(told.kinds.len(), usize::from(told.kinds.contains(&Rebuilt)));
    let second = end(&mut engine, session);
    let whole: Vec<u32> = first.into_iter().chain(second).collect();
    assert_eq!(whole, greedy(&mut engine, model, &tokens, 16));
    on_gpu_unharmed(&engine, model);
}

#[test]
fn a_device_lost_while_weights_arrive() {
    let path = golden("tiny/tiny-llama.gguf");
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    let wanted = greedy(&mut engine, model, &tokens, 12);
    // In the middle of the file, and before anything is loaded.
    for share in [3, 0] {
        let mut engine = Engine::new(&on_exact_gpu(false)).unwrap();
        let model = engine.load(throttled(&path, 1_000_000), &LoadOptions::default()).unwrap();
        let session = start_with(&mut engine, model, &tokens, &asks(12));
        while engine.progress(model).unwrap().shards < share {
            engine.tick();
        }
        lose(&engine, model, 0);
        // The loader's thread notices the loss before the next tick does.
        std::thread::sleep(std::time::Duration::from_millis(60));
        let told = run_all(&mut engine, &[session], |_, _| {});
        assert_eq!(engine.wait(session).unwrap(), FinishReason::MaxTokens);
        assert_eq!(engine.output(session).unwrap().tokens, wanted);
        assert_eq!(told.kinds, [Rebuilt]);
        assert!(engine.progress(model).unwrap().is_complete());
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn a_model_on_both_the_cpu_and_a_gpu() {
    let load = LoadOptions { gpu_layers: weft::GpuLayers::Count(2), ..LoadOptions::default() };
    let path = golden("tiny/tiny-llama.gguf");
    let gpus = vec![open(&exact(false))];
    let (mut engine, model) = loaded_on(path.as_path(), &EngineOptions::default(), gpus, &load);
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let kinds = kinds(24);
    let wanted: Vec<_> =
        kinds.iter().map(|options| says_alone(&mut engine, model, &tokens, options)).collect();
    let sessions = started(&mut engine, model, &tokens, &kinds);
    let told = run_and_lose(&mut engine, &sessions, (model, 0), |_, said| said >= 30);
    assert_eq!(said(&engine, &sessions), wanted);
    assert_eq!(told.kinds, [Rebuilt]);
    on_gpu_unharmed(&engine, model);
}

#[test]
fn one_of_two_devices() {
    let path = golden("tiny/tiny-llama.gguf");
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    for lost_part in [0, 1] {
        let gpus = vec![open(&exact(false)), open(&exact(false))];
        let options = EngineOptions::default();
        let (mut engine, model) = loaded_on(path.as_path(), &options, gpus, &LoadOptions::default());
        let kinds = kinds(24);
        let wanted: Vec<_> =
            kinds.iter().map(|options| says_alone(&mut engine, model, &tokens, options)).collect();
        let sessions = started(&mut engine, model, &tokens, &kinds);
        let told = run_and_lose(&mut engine, &sessions, (model, lost_part), |_, said| said >= 30);
        assert_eq!(said(&engine, &sessions), wanted, "device {lost_part}");
        assert_eq!(told.kinds, [Rebuilt]);
        assert_eq!(engine.gpu_shards(model).len(), 2);
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn two_models_on_the_device_that_is_lost() {
    let (mut engine, first, tokens) = tiny(&on_exact_gpu(false));
    let second = engine.load(golden("tiny/tiny-mistral.gguf").as_path(), &LoadOptions::default()).unwrap();
    engine.wait_loaded(second).unwrap();
    let wanted = [first, second].map(|model| greedy(&mut engine, model, &tokens, 20));
    let sessions = [first, second].map(|model| start_with(&mut engine, model, &tokens, &asks(20)));
    let told = run_and_lose(&mut engine, &sessions, (first, 0), |_, said| said >= 12);
    assert_eq!(said(&engine, &sessions), wanted);
    assert_eq!(told.kinds, [Rebuilt, Rebuilt]);
    on_gpu_unharmed(&engine, first);
    on_gpu_unharmed(&engine, second);
    // A model that is unloaded together with its lost device leaves nothing to recover.
    lose(&engine, first, 0);
    engine.unload(first);
    assert_eq!(greedy(&mut engine, second, &tokens, 20), wanted[1]);
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_in_mid_answer() {
    let (mut engine, model) = loaded_with(&smollm2(), &on_exact_gpu(false));
    let prompts: Vec<Vec<u32>> =
        (1..=3).map(|n| ids(&golden_json(&format!("smollm2/prompt{n}.json"))["tokens"])).collect();
    let sessions: Vec<_> =
        prompts.iter().map(|prompt| start_with(&mut engine, model, prompt, &asks(12))).collect();
    let told = run_and_lose(&mut engine, &sessions, (model, 0), |_, said| said >= 15);
    assert_eq!(told.kinds, [Rebuilt]);
    let said = said(&engine, &sessions);
    on_gpu_unharmed(&engine, model);
    drop(engine);
    let mut judge = Judge::smollm2();
    for (n, (prompt, answer)) in prompts.iter().zip(&said).enumerate() {
        assert_eq!(answer.len(), 12);
        judge.check(prompt, answer, &format!("prompt {}", n + 1));
    }
}

#[test]
fn sixteen_sessions_that_are_all_told_again() {
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    let prompts = crate::common::company::prompts(engine.config(model).unwrap().vocabulary, &tokens);
    let wanted = say_together(&mut engine, model, &prompts, |_| asks(12));
    let sessions: Vec<_> =
        prompts.iter().map(|prompt| start_with(&mut engine, model, prompt, &asks(12))).collect();
    run_and_lose(&mut engine, &sessions, (model, 0), |_, said| said >= 60);
    assert_eq!(said(&engine, &sessions), wanted);
    on_gpu_unharmed(&engine, model);
}

#[test]
fn a_device_that_works_for_long_between_failures_is_kept() {
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    // More steps than a device has to compute to count as working.
    const LONG: usize = 270;
    let wanted = greedy(&mut engine, model, &tokens, LONG + 6);
    // Two failures in a row. A third in a row would be the last; LONG working steps reset the count.
    for steps in [8, 8, LONG, 8] {
        let session = start_with(&mut engine, model, &tokens, &asks(steps + 6));
        let told = run_and_lose(&mut engine, &[session], (model, 0), |_, said| said >= steps);
        assert_eq!(told.kinds, [Rebuilt], "after {steps} steps");
        assert_eq!(engine.output(session).unwrap().tokens, wanted[..steps + 6]);
        engine.close(session);
    }
    on_gpu_unharmed(&engine, model);
}

#[test]
fn others_go_on_while_a_device_is_opened_again() {
    let (mut engine, model, tokens) = tiny(&on_exact_gpu(false));
    let on_cpu = LoadOptions { gpu_layers: weft::GpuLayers::Count(0), ..LoadOptions::default() };
    let other = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &on_cpu).unwrap();
    engine.wait_loaded(other).unwrap();
    assert!(engine.gpu_shards(other).is_empty());
    let wanted = greedy(&mut engine, model, &tokens, 20);
    let here = start_with(&mut engine, model, &tokens, &asks(20));
    let beside = start_with(&mut engine, other, &tokens, &asks(400));
    let said = |engine: &Engine, session| engine.output(session).unwrap().tokens.len();
    let mut told = DeviceEvents::default();
    while said(&engine, here) < 5 {
        step(&mut engine, &mut told);
    }
    lose(&engine, model, 0);
    let (before, mut ticks) = (said(&engine, beside), 0);
    while told.kinds.is_empty() {
        step(&mut engine, &mut told);
        ticks += 1;
    }
    let meanwhile = said(&engine, beside) - before;
    println!("{meanwhile} tokens beside it in {ticks} ticks until the device was there");
    assert!(meanwhile > 0, "{ticks} ticks");
    engine.wait(here).unwrap();
    assert_eq!(engine.output(here).unwrap().tokens, wanted);
    assert_eq!(told.kinds, [Rebuilt]);
}
