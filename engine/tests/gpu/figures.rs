//! What decoding asks of a GPU: dispatches a layer and token, submits, and no memory.

use crate::common::company::start_with;
use crate::common::gpu::{
    PATHS, cooperative, device, featured, loaded_on, noop, on_gpu, on_gpu_unharmed, open, run_all,
};
use crate::common::mixed::{Q4_K_M, mixed};
use crate::common::requests::{asks, tiny};
use crate::common::{golden, synthetic, told};
use weft::synth::SynthShape;
use weft::{Capabilities, Counters, Engine, EngineOptions, Gpu, GpuLayers, LoadOptions, ModelId, SessionId};

/// The most that decoding may take a layer and step.
const MOST_DISPATCHES: f64 = 9.0;
/// More sessions than this take the kernels of prompts. Where their contexts are split as well, merging them is one dispatch
/// more, and so is the projection of values where their format is not that of queries and keys: all of the step's tokens share
/// them.
const FEW: usize = 8;
/// Steps that are counted.
const STEPS: u64 = 6;

fn counters(engine: &Engine, model: ModelId) -> Counters {
    engine.gpu_parts(model)[0].counters()
}

/// Sessions that have been told so many tokens and decode.
fn decoding(
    engine: &mut Engine,
    model: ModelId,
    count: usize,
    context: usize,
    generate: usize,
) -> Vec<SessionId> {
    let prompt = |n: usize| (0..context).map(|i| ((i * 7 + n) % 250) as u32).collect::<Vec<_>>();
    let sessions: Vec<_> =
        (0..count).map(|n| start_with(engine, model, &prompt(n), &asks(generate))).collect();
    // Until each has said something: prompts are behind them.
    while sessions.iter().any(|session| engine.output(*session).unwrap().tokens.len() < 2) {
        engine.tick();
        engine.rest();
    }
    sessions
}

/// Dispatches of a step in which `count` sessions decode, of a model of so many layers.
fn of_a_step(gpu: Gpu, layers: usize, format: &str, (count, context): (usize, usize)) -> f64 {
    let shape = SynthShape {
        layers,
        feed_forward: 256,
        key_length: Some(64),
        context: 4096,
        ..SynthShape::default()
    };
    let load = LoadOptions { kv_tokens: Some(count * (context + 128)), ..LoadOptions::default() };
    let source = if format == "q4_k_m" { mixed(&shape, Q4_K_M) } else { synthetic(&shape, format) };
    let (mut engine, model) = loaded_on(source, &EngineOptions::default(), vec![gpu], &load);
    let sessions = decoding(&mut engine, model, count, context, 100);
    let before = counters(&engine, model);
    while counters(&engine, model).since(&before).submits < STEPS {
        engine.tick();
        engine.rest();
    }
    let counted = counters(&engine, model).since(&before);
    sessions.iter().for_each(|session| engine.close(*session));
    on_gpu_unharmed(&engine, model);
    counted.dispatches as f64 / counted.submits as f64
}

/// Dispatches of a layer of each architecture where one session decodes: what a layer needs beyond Llama's five, it pays for.
#[test]
fn a_layer_takes_the_dispatches_that_its_tensors_ask_for() {
    const LLAMA: (&str, u64) = ("tiny-llama", 5);
    let wanted = [
        ("tiny-llama31", 5),
        ("tiny-mistral", 5),
        ("tiny-phi3", 6),
        ("tiny-qwen2", 6),
        ("tiny-qwen3", 6),
        ("tiny-gemma2", 8),
        ("tiny-gemma3", 8),
        ("tiny-mixtral", 8),
        ("tiny-qwen3moe", 9),
        // The scores of experts and of the shared one are of two formats.
        ("tiny-qwen2moe", 12),
        ("tiny-bitnet", 10),
    ];
    let of_a_step = |name: &str| {
        let path = golden(&format!("tiny/{name}.gguf"));
        let load = LoadOptions { kv_tokens: Some(256), ..LoadOptions::default() };
        let (mut engine, model) = loaded_on(&*path, &EngineOptions::default(), vec![noop(featured)], &load);
        decoding(&mut engine, model, 1, 8, 100);
        let before = counters(&engine, model);
        while counters(&engine, model).since(&before).submits < STEPS {
            engine.tick();
            engine.rest();
        }
        let counted = counters(&engine, model).since(&before);
        on_gpu_unharmed(&engine, model);
        let config = engine.config(model).unwrap();
        (counted.dispatches / counted.submits, config.layers as u64, u64::from(config.logit_cap.is_some()))
    };
    let (step, layers, _) = of_a_step(LLAMA.0);
    let ends = step - layers * LLAMA.1;
    let found = wanted.map(|(name, _)| {
        let (step, layers, capped) = of_a_step(name);
        println!("{name}: {} dispatches a layer", (step - ends - capped) / layers);
        (name, (step - ends - capped) / layers)
    });
    assert_eq!(found, wanted);
}

/// What one layer adds to the dispatches of a step: the ends take as many however many there are.
fn of_a_layer(gpu: impl Fn() -> Gpu, format: &str, wave: (usize, usize)) -> f64 {
    of_a_step(gpu(), 2, format, wave) - of_a_step(gpu(), 1, format, wave)
}

#[test]
fn a_layer_takes_at_most_nine_dispatches_a_token() {
    for plain in PATHS {
        for wave in [(1, 8), (16, 8)] {
            let each = of_a_layer(|| open(&device(plain)), "q4_1", wave);
            let (sessions, context) = wave;
            println!("plain {plain}, {sessions} sessions of {context}: {each} a layer");
            assert!(each <= MOST_DISPATCHES, "plain {plain}, {wave:?}: {each}");
        }
    }
}

#[test]
fn nor_more_on_any_device_whatever_the_wave() {
    // What is recorded does not depend on what is computed, so a device that computes nothing says it.
    let devices: [(&str, fn(Capabilities) -> Capabilities); 3] =
        [("plain", |caps| caps), ("featured", featured), ("cooperative", cooperative)];
    for (name, capabilities) in devices {
        for format in ["q8_0", "bf16", "q4_k_m"] {
            for wave in [(1, 8), (1, 3000), (4, 8), (4, 3000), (8, 3000), (16, 8), (16, 2000), (48, 8)] {
                let each = of_a_layer(|| noop(capabilities), format, wave);
                let (sessions, context) = wave;
                println!("{name}, {format}, {sessions} sessions of {context}: {each} a layer");
                let more = [context > 1000, format == "q4_k_m"]
                    .map(|one| f64::from(u8::from(sessions > FEW && one)));
                assert!(each <= MOST_DISPATCHES + more[0] + more[1], "{name}, {format}, {wave:?}: {each}");
            }
        }
    }
}

#[test]
fn a_token_takes_one_submit() {
    for plain in PATHS {
        for count in [1, 8] {
            let (mut engine, model, _) = tiny(&on_gpu(plain));
            let sessions = decoding(&mut engine, model, count, 8, 21);
            run_all(&mut engine, &sessions, |_, _| {});
            // Alone, so that no step runs ahead of an end.
            let session = told(&mut engine, model, &[1, 2, 3]);
            let before = counters(&engine, model);
            engine.generate(session, &asks(20)).unwrap();
            run_all(&mut engine, &[session], |_, _| {});
            let counted = counters(&engine, model).since(&before);
            // The prompt's step gives the first token.
            assert_eq!(counted.submits, 20, "plain {plain}");
            // The token, and nothing else, comes back.
            assert_eq!(counted.copies, 20, "plain {plain}");
            on_gpu_unharmed(&engine, model);
        }
    }
}

#[test]
fn decoding_takes_no_memory() {
    for plain in PATHS {
        for count in [1, 8] {
            let (mut engine, model, _) = tiny(&on_gpu(plain));
            let sessions = decoding(&mut engine, model, count, 8, 70);
            // Staging buffers for as many steps as run ahead are there after some.
            let said = |engine: &Engine| engine.output(sessions[0]).unwrap().tokens.len();
            while said(&engine) < 20 {
                engine.tick();
                engine.rest();
            }
            let before = engine.gpu_parts(model)[0].gpu.allocated();
            while said(&engine) < 60 {
                engine.tick();
                engine.rest();
            }
            let after = engine.gpu_parts(model)[0].gpu.allocated();
            assert_eq!(after, before, "{count} sessions, plain {plain}");
            run_all(&mut engine, &sessions, |_, _| {});
            on_gpu_unharmed(&engine, model);
        }
    }
}

#[test]
fn kernels_are_compiled_once_for_all_layers() {
    let path = golden("tiny/tiny-llama.gguf");
    let kernels = |layers| {
        let load = LoadOptions { gpu_layers: GpuLayers::Count(layers), ..LoadOptions::default() };
        let gpus = vec![open(&device(false))];
        let (mut engine, model) = loaded_on(path.as_path(), &EngineOptions::default(), gpus, &load);
        crate::common::greedy(&mut engine, model, &[1, 2, 3], 4);
        engine.gpu_parts(model)[0].gpu.pipelines.len()
    };
    assert_eq!(kernels(1), kernels(2));
}
