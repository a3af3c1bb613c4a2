//! The prefix tree and speculation on a GPU: pages are shared and copied there, drafts are verified by the device's choice.

use crate::common::gpu::{PATHS, exact, loaded_on, open, unharmed};
use crate::common::requests::asks;
use crate::common::{golden, golden_json, greedy, ids, told};
use crate::prefix::accounts;
use crate::speculate::drafts_change_no_answer_of;
use weft::{Engine, EngineOptions, GpuLayers, LoadOptions, ModelId};

fn on_gpu(plain: bool, layers: GpuLayers) -> (Engine, ModelId, Vec<u32>) {
    let path = golden("tiny/tiny-llama.gguf");
    let load = LoadOptions { gpu_layers: layers, ..LoadOptions::default() };
    let (engine, model) =
        loaded_on(path.as_path(), &EngineOptions::default(), vec![open(&exact(plain))], &load);
    (engine, model, ids(&golden_json("tiny/tiny-llama.json")["tokens"]))
}

#[test]
fn sessions_share_a_prefix_and_copy_a_page() {
    // On the GPU alone, and with layers on both places, whose pages are copied on both.
    for (plain, layers) in
        PATHS.into_iter().flat_map(|plain| [(plain, GpuLayers::Auto), (plain, GpuLayers::Count(2))])
    {
        let (mut engine, model, tokens) = on_gpu(plain, layers);
        let prefix = tokens.repeat(4);
        let prompts: Vec<Vec<u32>> = (0..5u32).map(|n| [&prefix[..], &[n, n + 1, n + 2]].concat()).collect();
        let wanted: Vec<_> = prompts.iter().map(|prompt| greedy(&mut engine, model, prompt, 40)).collect();
        let before = engine.prefix_stats(model).unwrap();
        let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
        for session in &sessions {
            engine.generate(*session, &asks(40)).unwrap();
        }
        for (session, wanted) in sessions.iter().zip(&wanted) {
            engine.wait(*session).unwrap();
            assert_eq!(&engine.output(*session).unwrap().tokens, wanted, "plain {plain}, {layers:?}");
        }
        let stats = engine.prefix_stats(model).unwrap();
        let prefilled = (stats.prefilled_tokens - before.prefilled_tokens) as usize;
        assert_eq!(prefilled, prefix.len() + 5 * 3, "plain {plain}, {layers:?}");
        // A fork in the middle of a page goes on as its origin does.
        let fork = engine.fork(sessions[0]).unwrap();
        for session in [fork, sessions[0]] {
            engine.generate(session, &asks(12)).unwrap();
        }
        let whole = [&prompts[0][..], &wanted[0]].concat();
        let more = greedy(&mut engine, model, &whole, 12);
        for session in [fork, sessions[0]] {
            engine.wait(session).unwrap();
            assert_eq!(engine.output(session).unwrap().tokens, more);
        }
        unharmed(&engine, model);
    }
}

#[test]
fn drafts_change_no_answer_on_a_gpu() {
    for plain in PATHS {
        let (mut engine, model, prompt) = on_gpu(plain, GpuLayers::Auto);
        drafts_change_no_answer_of(&mut engine, model, &prompt, 16, &[(0, 4), (3, 4)]);
        unharmed(&engine, model);
    }
}

#[test]
fn every_page_is_accounted_for_on_a_gpu() {
    accounts::run(Engine::with_gpus(&accounts::options(), vec![open(&exact(false))]).unwrap(), 1500, 77);
}

#[test]
fn long_prompts_that_leap_over_each_other_keep_their_pages() {
    // Waves are composed before earlier ones have been read back, and each session finds what the other has begun.
    let options = EngineOptions { max_rows: Some(64), ..EngineOptions::default() };
    let path = golden("tiny/tiny-llama.gguf");
    let load = LoadOptions { kv_tokens: Some(8192), ..LoadOptions::default() };
    let (mut engine, model) = loaded_on(path.as_path(), &options, vec![open(&exact(false))], &load);
    let context = engine.config(model).unwrap().context.min(2000) - 20;
    let prompt: Vec<u32> = (0..context).map(|at| (at * 31 % 300) as u32).collect();
    let wanted = greedy(&mut engine, model, &prompt, 8);
    let sessions: Vec<_> = (0..3).map(|_| told(&mut engine, model, &prompt)).collect();
    for session in &sessions {
        engine.generate(*session, &asks(8)).unwrap();
    }
    for session in &sessions {
        engine.wait(*session).unwrap();
        assert_eq!(engine.output(*session).unwrap().tokens, wanted);
    }
}
