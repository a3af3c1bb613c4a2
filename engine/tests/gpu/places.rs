//! Placement of layers on the GPU: the last layers, as many as requested or as fit. The text does not depend on it.

use crate::common::company::{prompts, say_together};
use crate::common::gpu::{Judge, PATHS, asked, device, loaded_on, open, unharmed};
use crate::common::reference::tiny_agrees_on;
use crate::common::{golden, golden_json, greedy, ids, smollm2};
use bevy_ecs::prelude::Entity;
use weft::components::{Ends, HeldBy, Layers, Place, PlacedOn};
use weft::{Engine, EngineOptions, Error, Gpu, GpuError, GpuLayers, GpuOptions, LoadOptions, ModelId};
use weft_systems::on_gpu::GpuBackend;

const LAYERS: usize = 3;

/// The GPU of each layer; `None` for the CPU.
pub(crate) fn places(engine: &Engine, model: ModelId) -> Vec<Option<usize>> {
    let world = engine.world();
    let layers = world.get::<Layers>(model.0).unwrap().entities();
    let place = |layer: &Entity| {
        let held = world.get::<HeldBy>(*layer).unwrap().0;
        assert_eq!(world.get::<PlacedOn>(*layer).unwrap().0, held, "held where it is wanted");
        // The CPU is the first place.
        (held.id() as usize).checked_sub(1)
    };
    layers.iter().map(place).collect()
}

fn count(gpu_layers: usize) -> LoadOptions {
    LoadOptions { gpu_layers: GpuLayers::Count(gpu_layers), ..LoadOptions::default() }
}

fn tiny_on(gpu: Gpu, load: &LoadOptions) -> (Engine, ModelId) {
    loaded_on(golden("tiny/tiny-llama.gguf").as_path(), &EngineOptions::default(), vec![gpu], load)
}

#[test]
fn the_last_layers_go_to_the_gpu_and_the_text_stays() {
    for plain in PATHS {
        for wanted in [0, 1, 2, LAYERS, LAYERS + 5] {
            let (mut engine, model) = tiny_on(open(&device(plain)), &count(wanted));
            let on_gpu = wanted.min(LAYERS);
            let mut expected = vec![None; LAYERS - on_gpu];
            expected.resize(LAYERS, Some(0));
            assert_eq!(places(&engine, model), expected);
            let ends = engine.world().get::<Ends>(model.0).unwrap();
            let place = |is: bool| Place::new(u32::from(is));
            assert_eq!((ends.embed, ends.head), (place(on_gpu == LAYERS), place(on_gpu > 0)));
            assert_eq!(engine.gpu_shards(model).len(), usize::from(on_gpu > 0));
            let most = tiny_agrees_on("tiny-llama", &mut engine, model);
            println!("{wanted} layers on the GPU, plain {plain}: KL {most:.2e} at most");
            let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
            let prompts = &prompts(engine.config(model).unwrap().vocabulary, &tokens)[..5];
            let mut judge = Judge::tiny();
            let said = say_together(&mut engine, model, prompts, |_| asked());
            for (n, (prompt, answer)) in prompts.iter().zip(&said).enumerate() {
                judge.check(prompt, answer, &format!("session {n}, {wanted} layers, plain {plain}"));
            }
            unharmed(&engine, model);
        }
    }
}

#[test]
fn a_tied_model_in_halves() {
    for wanted in [1, 2] {
        let path = golden("tiny/tiny-llama31.gguf");
        let gpus = vec![open(&device(false))];
        let (mut engine, model) = loaded_on(path.as_path(), &EngineOptions::default(), gpus, &count(wanted));
        tiny_agrees_on("tiny-llama31", &mut engine, model);
        unharmed(&engine, model);
    }
}

#[test]
#[ignore = "SmolLM2 on a software GPU takes minutes: .ci/test --slow"]
fn smollm2_in_halves() {
    let gpus = vec![open(&device(false))];
    let (mut engine, model) = loaded_on(smollm2().as_path(), &EngineOptions::default(), gpus, &count(15));
    let reference = golden_json("smollm2/prompt2.json");
    let tokens = ids(&reference["tokens"]);
    let said = greedy(&mut engine, model, &tokens, 16);
    unharmed(&engine, model);
    drop(engine);
    Judge::smollm2().check(&tokens, &said, "half of the layers");
}

/// The GPUs of an engine.
fn gpus(engine: &Engine) -> Vec<&Gpu> {
    engine.world().resource::<GpuBackend>().0.iter().map(|at| &*at.gpu).collect()
}

fn entities(engine: &mut Engine) -> usize {
    engine.world_mut().query::<Entity>().iter(engine.world()).count()
}

fn with_memory(memory: u64) -> Gpu {
    open(&GpuOptions { memory: Some(memory), ..device(false) })
}

/// Returns the memory that a refusal says the layers need, and how many layers fit.
fn refused(memory: u64, layers: usize) -> (u64, usize) {
    let mut engine = Engine::with_gpus(&EngineOptions::default(), vec![with_memory(memory)]).unwrap();
    let before = entities(&mut engine);
    let error = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &count(layers)).unwrap_err();
    let Error::Load(error) = error else { panic!("{error}") };
    let Some(GpuError::DoesNotFit { layers: found, needed, budget, fit }) = error.place_reason() else {
        panic!("{error}")
    };
    assert_eq!((*found, *budget), (layers, memory));
    assert!(*needed > memory);
    // The refusal comes before anything is loaded and leaves nothing behind.
    assert_eq!(gpus(&engine)[0].allocated().buffers, 0);
    assert_eq!(entities(&mut engine), before);
    assert!(error.to_string().contains("--gpu-layers"), "{error}");
    // The engine accepts as many layers as fit.
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &count(*fit)).unwrap();
    engine.wait_loaded(model).unwrap();
    assert_eq!(places(&engine, model).iter().flatten().count(), *fit);
    (*needed, *fit)
}

#[test]
fn layers_that_do_not_fit_are_refused_before_anything_is_loaded() {
    let (needed, fit) = refused(1, LAYERS);
    assert_eq!(fit, 0);
    assert_eq!(refused(needed - 1, LAYERS), (needed, LAYERS - 1));
    // With one byte more all layers fit, and they use no more than that.
    let (engine, model) = tiny_on(with_memory(needed), &count(LAYERS));
    assert_eq!(places(&engine, model), [Some(0); LAYERS]);
    let taken = gpus(&engine)[0].allocated().bytes;
    println!("{needed} bytes were said to be needed, {taken} were taken");
    assert!(taken <= needed, "{taken} bytes were taken of the {needed} that may be used");
}

#[test]
fn what_does_not_fit_stays_on_the_cpu() {
    let (needed, _) = refused(1, LAYERS);
    let mut found = Vec::new();
    for share in [1.0, 0.99, 0.9, 0.8, 0.5, 0.0] {
        let memory = (needed as f64 * share) as u64;
        let (mut engine, model) = tiny_on(with_memory(memory), &LoadOptions::default());
        let places = places(&engine, model);
        let on_gpu = places.iter().flatten().count();
        assert!(places[..LAYERS - on_gpu].iter().all(Option::is_none), "the last ones: {places:?}");
        let taken = gpus(&engine)[0].allocated().bytes;
        assert!(taken <= memory, "{on_gpu} layers took {taken} of {memory} bytes");
        tiny_agrees_on("tiny-llama", &mut engine, model);
        unharmed(&engine, model);
        found.push(on_gpu);
    }
    assert_eq!((found[0], found[1], found[found.len() - 1]), (LAYERS, LAYERS - 1, 0), "{found:?}");
    assert!(found.is_sorted_by(|a, b| a >= b), "{found:?}");
}
