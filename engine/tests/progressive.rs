//! Answering while loading: prefill enters a layer as soon as it is loaded, and the text is that of a complete load.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

use crate::common::{golden, golden_json, greedy, ids, loaded, smollm2, throttled, told};
use std::path::Path;
use weft::components::{AtLayer, Wave};
use weft::{Engine, EngineOptions, Error, FinishReason, GenerateOptions, LoadOptions};

/// Runs a prompt while the model loads. Returns the answer's tokens, and a list of the stops of the first wave before a
/// layer that was missing: the layer, and the number of layers loaded then.
fn answer_while_loading(
    path: &Path,
    tokens: &[u32],
    count: usize,
    rate: u64,
) -> (Vec<u32>, Vec<(usize, usize)>) {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine.load(throttled(path, rate), &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, tokens);
    let options = GenerateOptions { max_tokens: Some(count), ignore_end: true, ..GenerateOptions::default() };
    engine.generate(session, &options).unwrap();
    let mut stops = Vec::new();
    let mut waves = engine.world_mut().query::<&Wave>();
    while !engine.progress(model).unwrap().is_complete() {
        engine.tick();
        let progress = engine.progress(model).unwrap();
        let standing = waves.iter(engine.world()).find_map(|wave| match wave.at {
            AtLayer::Layer(index) => Some(index),
            _ => None,
        });
        if let Some(layer) =
            standing.filter(|layer| stops.last().is_none_or(|last: &(usize, usize)| last.0 != *layer))
        {
            stops.push((layer, progress.layers));
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    assert_eq!(engine.wait(session).unwrap(), FinishReason::MaxTokens);
    (engine.output(session).unwrap().tokens.clone(), stops)
}

fn text_is_that_of_a_full_load(path: &Path, tokens: &[u32], rate: u64) {
    const COUNT: usize = 12;
    let (mut engine, model) = loaded(path);
    let expected = greedy(&mut engine, model, tokens, COUNT);
    let layers = engine.config(model).unwrap().layers;
    let (found, stops) = answer_while_loading(path, tokens, COUNT, rate);
    assert_eq!(found, expected);
    println!("the first wave stood before layers {stops:?} of {layers} (layer, layers resident)");
    assert!(stops.len() > 1, "the wave never waited for a layer: {stops:?}");
    assert!(
        stops.iter().any(|(layer, resident)| *layer > 0 && *resident < layers),
        "no layer ran early: {stops:?}"
    );
    assert!(stops.iter().all(|(layer, resident)| layer <= resident), "ran ahead of its weights: {stops:?}");
}

#[test]
fn tiny_model_at_a_fraction_of_a_megabyte_a_second() {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    text_is_that_of_a_full_load(&golden("tiny/tiny-llama.gguf"), &tokens, 400_000);
}

#[test]
fn real_model_at_a_few_megabytes_a_second() {
    let tokens = ids(&golden_json("smollm2/prompt2.json")["tokens"]);
    text_is_that_of_a_full_load(&smollm2(), &tokens, 8_000_000);
}

#[test]
fn a_load_can_be_cancelled() {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model =
        engine.load(throttled(&golden("tiny/tiny-llama.gguf"), 50_000), &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &GenerateOptions::default()).unwrap();
    while engine.progress(model).unwrap().shards == 0 {
        engine.tick();
    }
    engine.unload(model);
    engine.tick();
    assert!(matches!(engine.progress(model), Err(Error::NoModel)));
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
    // The world can load another model afterwards.
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    engine.wait_loaded(model).unwrap();
}

#[test]
fn progress_is_told_as_messages() {
    use bevy_ecs::message::{MessageCursor, Messages};
    use weft::LoadProgress;
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model =
        engine.load(throttled(&golden("tiny/tiny-llama.gguf"), 2_000_000), &LoadOptions::default()).unwrap();
    let mut cursor = MessageCursor::<LoadProgress>::default();
    let mut told = Vec::new();
    while !engine.progress(model).unwrap().is_complete() {
        engine.tick();
        told.extend(cursor.read(engine.world().resource::<Messages<LoadProgress>>()).copied());
    }
    engine.tick();
    told.extend(cursor.read(engine.world().resource::<Messages<LoadProgress>>()).copied());
    assert_eq!(told.len(), told[0].total_shards);
    assert!(told.windows(2).all(|pair| pair[0].bytes < pair[1].bytes && pair[0].layers <= pair[1].layers));
    assert!(told.last().unwrap().is_complete());
}

#[test]
fn a_file_that_is_cut_short_while_it_loads_is_a_typed_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shrinking.gguf");
    std::fs::copy(golden("tiny/tiny-llama.gguf"), &path).unwrap();
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine.load(throttled(&path, 300_000), &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &GenerateOptions::default()).unwrap();
    while engine.progress(model).unwrap().shards == 0 {
        engine.tick();
    }
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let error = engine.wait_loaded(model).unwrap_err();
    assert!(matches!(error, Error::Load(_)), "{error:?}");
    assert!(error.to_string().contains("shrinking.gguf"), "{error}");
    let error = engine.wait(session).unwrap_err();
    assert!(error.to_string().contains("shrinking.gguf"), "{error}");
}
