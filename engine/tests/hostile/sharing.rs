//! How sessions share the KV cache, the rows of a wave and the ticks.

use super::support::{TOKENS, alone, asks, cramped, engine, finish, gated, load};
use crate::common::{golden, told};
use weft::components::{AtLayer, ContextCursor, Wave};
use weft::{Engine, FinishReason, PAGE, Phase, TickOutcome};

#[test]
fn sessions_at_rest_do_not_keep_others_from_sharing_waves() {
    // Twelve pages are held by finished sessions; twelve new sessions need one page each.
    let (mut engine, model) = cramped(12, 64);
    let round = |engine: &mut Engine| {
        let sessions: Vec<_> = (0..12).map(|n| told(engine, model, &TOKENS[n..n + 5])).collect();
        sessions.iter().for_each(|session| engine.generate(*session, &asks(8)).unwrap());
        let mut ticks = 0;
        while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
            engine.tick();
            ticks += 1;
        }
        ticks
    };
    let fresh = round(&mut engine);
    let crowded = round(&mut engine);
    assert!(crowded <= 3 * fresh, "{crowded} ticks beside sessions at rest, {fresh} without");
}

#[test]
fn a_victim_is_not_computed_again_and_again() {
    // One session grows from nothing to almost all of the cache; the other needs almost all of it at once. The other
    // cannot finish before the first has, and is preempted with its computed context lost until then.
    let (mut engine, model) = cramped(17, 512);
    let long: Vec<u32> = TOKENS.iter().cycle().take(400).copied().collect();
    let sessions = [told(&mut engine, model, &TOKENS[..4]), told(&mut engine, model, &long)];
    engine.generate(sessions[0], &asks(500)).unwrap();
    engine.generate(sessions[1], &asks(110)).unwrap();
    let (mut rows, mut before) = (0, [0; 2]);
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        engine.tick();
        for (session, before) in sessions.iter().zip(&mut before) {
            let now = engine.world().get::<ContextCursor>(session.0).unwrap().computed;
            rows += now.saturating_sub(*before);
            *before = now;
        }
    }
    let useful = 504 + 510;
    assert!(rows <= 2 * useful, "{rows} rows computed for {useful} tokens");
}

#[test]
fn a_prompt_gets_its_turn_beside_decoders_that_fill_the_wave() {
    let (mut engine, model) = cramped(64, 2);
    let decoders: Vec<_> = (0..2).map(|n| told(&mut engine, model, &TOKENS[n..n + 4])).collect();
    decoders.iter().for_each(|session| engine.generate(*session, &asks(400)).unwrap());
    for _ in 0..8 {
        engine.tick();
    }
    let short = told(&mut engine, model, &TOKENS[..4]);
    engine.generate(short, &asks(2)).unwrap();
    for _ in 0..100 {
        engine.tick();
    }
    assert_eq!(engine.phase(short).unwrap(), Phase::Finished(FinishReason::MaxTokens));
}

#[test]
fn a_wave_of_one_row_serves_everybody() {
    let (mut engine, model) = cramped(3, 1);
    let sessions: Vec<_> = (0..3).map(|n| told(&mut engine, model, &TOKENS[n..n + 20])).collect();
    sessions.iter().for_each(|session| engine.generate(*session, &asks(40)).unwrap());
    for (n, session) in sessions.iter().enumerate() {
        assert_eq!(finish(&mut engine, *session), FinishReason::MaxTokens);
        assert_eq!(engine.output(*session).unwrap().tokens, alone(&TOKENS[n..n + 20], 40));
    }
}

#[test]
fn a_tick_tells_what_it_did_whichever_model_moved() {
    for held_first in [true, false] {
        let mut engine = engine(64);
        let (source, gate) = gated();
        let (held, free);
        if held_first {
            held = load(&mut engine, source, 4 * PAGE);
            free = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), 4 * PAGE);
        } else {
            free = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), 4 * PAGE);
            held = load(&mut engine, source, 4 * PAGE);
        }
        engine.wait_loaded(free).unwrap();
        let waiting = told(&mut engine, held, &TOKENS[..9]);
        engine.generate(waiting, &asks(5)).unwrap();
        let stuck = |engine: &mut Engine| {
            let mut waves = engine.world_mut().query::<&Wave>();
            waves.iter(engine.world()).any(|wave| wave.at == AtLayer::Layer(2))
        };
        while !stuck(&mut engine) {
            engine.tick();
        }
        let session = told(&mut engine, free, &TOKENS[..9]);
        engine.generate(session, &asks(10)).unwrap();
        for _ in 0..8 {
            assert_eq!(engine.tick(), TickOutcome::Advanced, "a token was chosen, held first: {held_first}");
        }
        finish(&mut engine, session);
        assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..9], 10));
        engine.tick();
        assert_eq!(engine.tick(), TickOutcome::Waiting, "nothing moved, held first: {held_first}");
        gate.open();
        assert_eq!(finish(&mut engine, waiting), FinishReason::MaxTokens);
        assert_eq!(engine.output(waiting).unwrap().tokens, alone(&TOKENS[..9], 5));
    }
}
