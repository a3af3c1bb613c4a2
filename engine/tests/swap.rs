//! Contexts of preempted sessions that are swapped to host memory: they say the same as those that are computed again, take
//! no more than their budget, and every page stays accounted for.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::requests::asks;
use crate::common::{golden, greedy, told};
use crate::prefix::accounts;
use weft::stages::kv::SwappedContext;
use weft::{AdmitOptions, Engine, EngineOptions, LoadOptions, ModelId, PAGE, Preempt, SamplerSettings};

fn engine(options: &EngineOptions, preempt: Preempt) -> Engine {
    let mut engine = Engine::new(options).unwrap();
    let options = AdmitOptions { preempt, ..AdmitOptions::of(engine.world()) };
    engine.world_mut().insert_resource(options);
    engine
}

/// An engine whose model has 12 pages.
fn cramped(preempt: Preempt) -> (Engine, ModelId) {
    let mut engine = engine(&EngineOptions::default(), preempt);
    let load = LoadOptions { kv_tokens: Some(12 * PAGE), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn swapped_bytes(engine: &mut Engine) -> u64 {
    let world = engine.world_mut();
    world.query::<&SwappedContext>().iter(world).map(SwappedContext::bytes).sum()
}

/// What came of sessions that need 22 pages together.
struct Outcome {
    answers: Vec<Vec<u32>>,
    prefilled: u64,
    /// Most bytes that were swapped out at once.
    most: u64,
}

fn run(preempt: Preempt) -> Outcome {
    let (mut engine, model) = cramped(preempt);
    let prompts: Vec<Vec<u32>> =
        (0..5).map(|n| (0..70 + n).map(|at| (at * 31 + n * 57 + 11) as u32 % 300).collect()).collect();
    let drawn = |n: usize| {
        let mut options = asks(60);
        options.sampler = SamplerSettings { temperature: 0.7, seed: n as u64, ..SamplerSettings::default() };
        options
    };
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    for (n, session) in sessions.iter().enumerate() {
        engine.generate(*session, &drawn(n)).unwrap();
    }
    let mut most = 0;
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        engine.tick();
        accounts::check(&mut engine, model);
        most = most.max(swapped_bytes(&mut engine));
    }
    let answers = sessions.iter().map(|session| engine.output(*session).unwrap().tokens.clone()).collect();
    let prefilled = engine.prefix_stats(model).unwrap().prefilled_tokens;
    sessions.into_iter().for_each(|session| engine.close(session));
    assert_eq!(swapped_bytes(&mut engine), 0);
    Outcome { answers, prefilled, most }
}

#[test]
fn swapped_contexts_say_the_same_and_are_not_computed_again() {
    let recomputed = run(Preempt::Recompute);
    assert!(recomputed.prefilled > 5 * 72, "nothing was preempted");
    assert_eq!(recomputed.most, 0);
    let swapped = run(Preempt::Swap { bytes: u64::MAX });
    assert_eq!(swapped.answers, recomputed.answers);
    assert!(swapped.most > 0);
    assert!(
        swapped.prefilled < recomputed.prefilled,
        "{} tokens instead of {}",
        swapped.prefilled,
        recomputed.prefilled
    );
    // Never more than the budget, down to nothing.
    for bytes in [swapped.most - 1, swapped.most / 2, 1, 0] {
        let bounded = run(Preempt::Swap { bytes });
        assert_eq!(bounded.answers, recomputed.answers, "{bytes} bytes");
        assert!(bounded.most <= bytes, "{} of {bytes} bytes", bounded.most);
    }
}

#[test]
fn a_context_that_was_changed_meanwhile_is_not_taken_for_the_old_one() {
    let (mut engine, model) = cramped(Preempt::Swap { bytes: u64::MAX });
    let prompt = |n: u32| (0..90).map(|at| (at * 31 + n * 57) % 300).collect::<Vec<u32>>();
    let sessions: Vec<_> = (0..4).map(|n| told(&mut engine, model, &prompt(n))).collect();
    for session in &sessions {
        engine.generate(*session, &asks(60)).unwrap();
    }
    while swapped_bytes(&mut engine) == 0 {
        engine.tick();
    }
    let has_swapped = |session: &&weft::SessionId| engine.world().get::<SwappedContext>(session.0).is_some();
    let swapped = *sessions.iter().find(has_swapped).unwrap();
    engine.cancel(swapped).unwrap();
    let edited = [&prompt(9)[..40], &prompt(2)[40..]].concat();
    engine.set_context(swapped, edited.clone()).unwrap();
    engine.generate(swapped, &asks(20)).unwrap();
    for session in &sessions {
        engine.wait(*session).unwrap();
    }
    let said = engine.output(swapped).unwrap().tokens.clone();
    sessions.iter().for_each(|session| engine.close(*session));
    assert_eq!(said, greedy(&mut engine, model, &edited, 20));
    accounts::check(&mut engine, model);
}

#[test]
fn every_page_is_accounted_for_with_swapping() {
    for (seed, bytes) in [(5, u64::MAX), (6, 60_000)] {
        accounts::run(engine(&accounts::options(), Preempt::Swap { bytes }), 5_000, seed * 0x9E37_79B9);
    }
}
