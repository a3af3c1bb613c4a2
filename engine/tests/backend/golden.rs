//! The golden models on the test's own backend, and what else a backend must keep to.

use super::{engine, layers_of, on_thread, watch};
use crate::architectures::references;
use crate::common::company::{asked, prompts, say_together, says_alone};
use crate::common::reference::{MOST_DIFFERENCE, hf_difference, tiny_agrees_on};
use crate::common::requests::asks;
use crate::common::{golden, golden_json, greedy, ids, loaded, told};
use std::sync::atomic::Ordering;
use weft::bevy_ecs::prelude::With;
use weft::components::{AtLayer, Wave, WaveOf};
use weft::stages::load::evict_layer;
use weft::{Engine, KvFormat, LoadOptions, TickOutcome};

#[test]
fn the_tiny_models_agree_with_llama_cpp_on_a_thread() {
    let exact = |name: &str| name.starts_with("tiny-llama-") || name.ends_with("-exact");
    for name in references("tiny").into_iter().filter(|name| !exact(name)) {
        for half in [false, true] {
            let (mut engine, model) = on_thread(golden(&format!("tiny/{name}.gguf")).as_path(), half);
            let most = tiny_agrees_on(&name, &mut engine, model);
            println!("{name}, half {half}: KL {most:.1e}");
            let [attention, ffn] = watch(&engine).computed();
            assert!(attention > 0 && attention == ffn, "{name}: {attention} and {ffn}");
        }
    }
}

#[test]
fn models_agree_with_transformers_on_a_thread() {
    for name in references("hf") {
        for half in [false, true] {
            let mut engine = engine(half);
            let difference = hf_difference(&name, &mut engine, KvFormat::F32).largest;
            println!("{name}, half {half}: {difference:.1e} of the largest logit");
            // Not `>`, which NaN would pass.
            assert!(difference <= MOST_DIFFERENCE, "{name}, half {half}: {difference:.1e}");
            let [attention, ffn] = watch(&engine).computed();
            assert!(attention > 0 && attention == ffn, "{name}: {attention} and {ffn}");
        }
    }
}

#[test]
fn sixteen_sessions_share_waves_that_go_to_the_thread() {
    let path = golden("tiny/tiny-llama.gguf");
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let (mut on_cpu, plain) = loaded(&path);
    let prompts = prompts(on_cpu.config(plain).unwrap().vocabulary, &tokens);
    let wanted: Vec<_> =
        prompts.iter().map(|prompt| says_alone(&mut on_cpu, plain, prompt, &asked())).collect();
    for half in [false, true] {
        let (mut engine, model) = on_thread(path.as_path(), half);
        assert_eq!(say_together(&mut engine, model, &prompts, |_| asked()), wanted, "half {half}");
    }
}

#[test]
fn an_adapter_adds_to_what_the_thread_computes() {
    let said = |mut engine: Engine, model| {
        let adapter = engine.load_adapter(model, golden("lora/llama-all.gguf").as_path()).unwrap();
        let session = told(&mut engine, model, &[81, 109, 62, 34]);
        engine.set_adapter(session, Some(adapter), 1.0).unwrap();
        engine.generate(session, &asks(16)).unwrap();
        engine.wait(session).unwrap();
        engine.output(session).unwrap().tokens.clone()
    };
    let path = golden("hf/llama.gguf");
    let (engine, model) = loaded(&path);
    let wanted = said(engine, model);
    let (engine, model) = on_thread(path.as_path(), true);
    assert_eq!(said(engine, model), wanted);
}

#[test]
fn ticks_do_not_wait_for_the_thread() {
    let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), false);
    let wanted = greedy(&mut engine, model, &[1, 2, 3], 8);
    let watch = watch(&engine);
    let gate = watch.gate.lock().unwrap();
    let [session, closed] = [0, 1].map(|_| told(&mut engine, model, &[1, 2, 3]));
    engine.generate(closed, &asks(8)).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    while engine.tick() == TickOutcome::Advanced {}
    for _ in 0..10 {
        assert_eq!(engine.tick(), TickOutcome::Waiting);
    }
    // A session that ends while its rows are away changes nothing for the other.
    engine.close(closed);
    drop(gate);
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
    // A model that goes while its wave is away takes nothing along.
    let gate = watch.gate.lock().unwrap();
    let again = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(again, &asks(8)).unwrap();
    while engine.tick() == TickOutcome::Advanced {}
    engine.unload(model);
    drop(gate);
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    assert_eq!(greedy(&mut engine, model, &[1, 2, 3], 8), wanted);
}

#[test]
fn attention_does_not_run_twice_if_the_network_after_it_is_not_ready() {
    let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), false);
    let layers = engine.config(model).unwrap().layers;
    let wanted = greedy(&mut engine, model, &[1, 2, 3], 8);
    let watch = watch(&engine);
    assert_eq!(watch.computed(), [8 * layers; 2]);
    // The thread turns the network down for a while.
    watch.turn_down.store(5, Ordering::Relaxed);
    assert_eq!(greedy(&mut engine, model, &[1, 2, 3], 8), wanted);
    assert_eq!(watch.turn_down.load(Ordering::Relaxed), 0);
    assert_eq!(watch.computed(), [2 * 8 * layers; 2]);
    // The layer loses its weights between its halves.
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &asks(8)).unwrap();
    let mut waves = engine.world_mut().query_filtered::<&Wave, With<WaveOf>>();
    let index = loop {
        watch.turn_down.store(1, Ordering::Relaxed);
        engine.tick();
        match waves.single(engine.world()).unwrap().at {
            AtLayer::Ffn(index) => break index,
            _ => engine.rest(),
        }
    };
    let layer = layers_of(engine.world(), model.0)[index];
    assert!(evict_layer(engine.world_mut(), layer));
    watch.turn_down.store(0, Ordering::Relaxed);
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
    assert_eq!(watch.computed(), [3 * 8 * layers; 2]);
}
