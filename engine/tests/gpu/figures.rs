//! The cost of decoding on a GPU: dispatches per layer and token, submits, and no allocated memory.

use crate::common::company::start_with;
use crate::common::gpu::{
    PATHS, cooperative, device, featured, loaded_on, noop, on_gpu, on_gpu_unharmed, open, run_all,
};
use crate::common::mixed::{Q4_K_M, mixed};
use crate::common::requests::{asks, tiny};
use crate::common::{golden, synthetic, told};
use weft::synth::SynthShape;
use weft::{Capabilities, Counters, Engine, EngineOptions, Gpu, GpuLayers, LoadOptions, ModelId, SessionId};

/// Maximum dispatches per layer and step of decoding.
const MOST_DISPATCHES: f64 = 9.0;
/// More sessions than this use the kernels of prompts. If their contexts are split as well, merging them takes one
/// dispatch more. So does the projection of values if its format differs from that of queries and keys. All tokens of
/// the step share these dispatches.
const FEW: usize = 8;
/// Number of steps that are counted.
const STEPS: u64 = 6;

fn counters(engine: &Engine, model: ModelId) -> Counters {
    engine.gpu_shards(model)[0].counters()
}

/// Sessions with prompts of this many tokens that are decoding.
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
    // Ticks until each session has generated tokens, so that all prompts are done.
    while sessions.iter().any(|session| engine.output(*session).unwrap().tokens.len() < 2) {
        engine.tick();
        engine.rest();
    }
    sessions
}

/// Dispatches of a step in which `count` sessions decode, on a model with this many layers.
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

/// Dispatches per layer of each architecture when one session decodes. What a layer needs beyond Llama's five costs
/// extra.
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
        // The router scores and the shared expert's score have different formats.
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

/// The dispatches that one layer adds to a step. Those outside the layers do not depend on the number of layers.
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
    // The recorded commands do not depend on computed values, so a device that computes nothing is enough.
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
            // With a single session, no step runs ahead of the end.
            let session = told(&mut engine, model, &[1, 2, 3]);
            let before = counters(&engine, model);
            engine.generate(session, &asks(20)).unwrap();
            run_all(&mut engine, &[session], |_, _| {});
            let counted = counters(&engine, model).since(&before);
            // The prompt's step generates the first token.
            assert_eq!(counted.submits, 20, "plain {plain}");
            // Only the token is read back.
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
            // Warm-up: after some steps, staging buffers exist for as many steps as are in flight.
            let said = |engine: &Engine| engine.output(sessions[0]).unwrap().tokens.len();
            while said(&engine) < 20 {
                engine.tick();
                engine.rest();
            }
            let before = engine.gpu_shards(model)[0].gpu.allocated();
            while said(&engine) < 60 {
                engine.tick();
                engine.rest();
            }
            let after = engine.gpu_shards(model)[0].gpu.allocated();
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
        engine.gpu_shards(model)[0].gpu.pipelines.len()
    };
    assert_eq!(kernels(1), kernels(2));
}
