//! A tick with a time budget stops between layers, and changes nothing but the number of ticks.

use crate::common::gpu::{device, on_gpu_unharmed, open};
use crate::common::requests::{asks, tiny};
use crate::common::{golden, greedy, loaded, told};
use std::time::Duration;
use weft::{Engine, EngineOptions, GpuLayers, LoadOptions, Phase, SessionId, TickBudget, TickOutcome};

/// Ticks with a budget until sessions have finished. Returns how many ticks it took.
fn ticks(engine: &mut Engine, sessions: &[SessionId], budget: Duration) -> usize {
    let mut ticks = 0;
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        assert_eq!(engine.tick_for(budget), TickOutcome::Advanced, "each tick moves something");
        ticks += 1;
    }
    ticks
}

#[test]
fn a_budget_of_nothing_gives_the_same_answer_in_more_ticks() {
    const TOKENS: usize = 24;
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let layers = engine.config(model).unwrap().layers;
    assert!(layers > 1);
    let wanted = greedy(&mut engine, model, &tokens, TOKENS);
    let mut took = Vec::new();
    for budget in [Duration::MAX, Duration::ZERO] {
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(TOKENS)).unwrap();
        took.push(ticks(&mut engine, &[session], budget));
        assert_eq!(engine.output(session).unwrap().tokens, wanted, "{budget:?}");
        assert!(matches!(engine.phase(session).unwrap(), Phase::Finished(_)));
    }
    assert_eq!(took, [TOKENS, TOKENS * layers]);
    assert!(engine.world().resource::<TickBudget>().deadline.is_none(), "a budget is of one tick");
}

#[test]
fn after_a_tick_that_advanced_there_is_nothing_to_wait_for() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(4)).unwrap();
    let signal = weft::world::signal(engine.world_mut());
    while engine.tick() == TickOutcome::Advanced {
        signal.notify();
        engine.rest();
        assert!(signal.take(), "a wait takes the signal down");
    }
    assert!(matches!(engine.phase(session).unwrap(), Phase::Finished(_)));
    signal.notify();
    engine.rest();
    assert!(!signal.take(), "idle, it waits for the signal");
}

#[test]
fn a_budget_of_nothing_starves_no_model() {
    let (mut engine, first, tokens) = tiny(&EngineOptions::default());
    // The first model has made up many waves already when the second comes.
    let wanted = greedy(&mut engine, first, &tokens, 40);
    let second = engine.load(golden("tiny/tiny-qwen2.gguf").as_path(), &LoadOptions::default()).unwrap();
    engine.wait_loaded(second).unwrap();
    let other = greedy(&mut engine, second, &tokens, 40);
    let sessions = [first, second].map(|model| {
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(40)).unwrap();
        session
    });
    for _ in 0..8 {
        engine.tick_for(Duration::ZERO);
    }
    for session in sessions {
        assert!(!engine.output(session).unwrap().tokens.is_empty(), "both models are at work");
    }
    ticks(&mut engine, &sessions, Duration::ZERO);
    assert_eq!(engine.output(sessions[0]).unwrap().tokens, wanted);
    assert_eq!(engine.output(sessions[1]).unwrap().tokens, other);
}

#[test]
fn a_budget_does_not_hold_up_a_load() {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &asks(8)).unwrap();
    while engine.phase(session).unwrap().is_active() {
        if engine.tick_for(Duration::ZERO) != TickOutcome::Advanced {
            engine.rest();
        }
    }
    let (mut whole, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    assert_eq!(engine.output(session).unwrap().tokens, greedy(&mut whole, model, &[1, 2, 3], 8));
}

#[test]
fn a_step_on_a_gpu_may_span_ticks() {
    let mut engine = Engine::with_gpus(&EngineOptions::default(), vec![open(&device(false))]).unwrap();
    for gpu_layers in [GpuLayers::Auto, GpuLayers::Count(1)] {
        let load = LoadOptions { gpu_layers, ..LoadOptions::default() };
        let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
        let wanted = greedy(&mut engine, model, &[1, 2, 3], 10);
        let session = told(&mut engine, model, &[1, 2, 3]);
        engine.generate(session, &asks(10)).unwrap();
        while engine.phase(session).unwrap().is_active() {
            if engine.tick_for(Duration::ZERO) != TickOutcome::Advanced {
                engine.rest();
            }
        }
        assert_eq!(engine.output(session).unwrap().tokens, wanted);
        on_gpu_unharmed(&engine, model);
    }
}
