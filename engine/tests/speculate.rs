//! Speculation: the text is that without it, greedy or sampled, at the end of a request or in the middle of a draft, and
//! text that repeats takes fewer waves.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::requests::{asks, tiny};
use crate::common::{golden, told};
use bevy_ecs::prelude::*;
use weft::components::{Draft, DraftedBy, TokenMask};
use weft::{
    AdmitOptions, Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, SamplerSettings, SessionId,
    TickSet, systems,
};

/// The answer of a session, and the number of ticks that it took.
fn answer(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (SessionId, Vec<u32>, usize) {
    let session = told(engine, model, prompt);
    engine.generate(session, options).unwrap();
    let mut ticks = 0;
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        ticks += 1;
    }
    let tokens = engine.output(session).unwrap().tokens.clone();
    (session, tokens, ticks)
}

fn ways() -> Vec<SamplerSettings> {
    let drawn = SamplerSettings { temperature: 0.7, seed: 5, ..SamplerSettings::default() };
    vec![
        SamplerSettings::default(),
        drawn.clone(),
        SamplerSettings { top_k: 3, ..drawn.clone() },
        SamplerSettings { repetition_penalty: 1.1, ..drawn.clone() },
        SamplerSettings { logprobs: Some(2), ..drawn },
    ]
}

/// An engine with the oracle as drafter, in which drafts always pay.
fn with_oracle(options: &EngineOptions) -> (Engine, ModelId, Vec<u32>) {
    let (mut engine, model, prompt) = tiny(options);
    ask_oracle(&mut engine);
    (engine, model, prompt)
}

fn ask_oracle(engine: &mut Engine) {
    engine.add_systems(TickSet::Speculate, foretell.after(systems::draft));
    engine.world_mut().insert_resource(Oracle { prompt: 0, text: Vec::new(), wrong: 0 });
    engine.world_mut().resource_mut::<AdmitOptions>().wave_cost = Some(1e6);
}

/// Writes what a session will say, or what it will not, as its draft. In place of the engine's own drafter.
#[derive(Resource)]
struct Oracle {
    prompt: usize,
    text: Vec<u32>,
    /// Every how many tokens it is wrong; 0 for never.
    wrong: usize,
}

fn foretell(
    oracle: Res<'_, Oracle>,
    mut sessions: Query<'_, '_, (&weft::components::TokenHistory, &mut Draft)>,
) {
    for (history, mut draft) in &mut sessions {
        draft.tokens.clear();
        let said = history.0.len().saturating_sub(oracle.prompt);
        let next = oracle.text.iter().enumerate().skip(said).take(16);
        draft.tokens.extend(next.map(|(at, token)| {
            if oracle.wrong > 0 && at % oracle.wrong == oracle.wrong - 1 {
                (*token + 1) % 300
            } else {
                *token
            }
        }));
        draft.confidence = 1.0;
    }
}

/// For any backend: whatever is drafted, the answers of `count` tokens are those without drafts. Each of the `cases` says
/// every how many tokens the draft is wrong, and how many are drafted.
pub(crate) fn drafts_change_no_answer_of(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    count: usize,
    cases: &[(usize, usize)],
) {
    ask_oracle(engine);
    for sampler in ways() {
        let plain = GenerateOptions { sampler: sampler.clone(), ..asks(count) };
        let (_, wanted, ticks) = answer(engine, model, prompt, &plain);
        for (wrong, draft) in cases.iter().copied() {
            *engine.world_mut().resource_mut::<Oracle>() =
                Oracle { prompt: prompt.len(), text: wanted.clone(), wrong };
            let options = GenerateOptions { draft, ..plain.clone() };
            let (session, found, fewer) = answer(engine, model, prompt, &options);
            assert_eq!(found, wanted, "{sampler:?}, wrong every {wrong}, drafts of {draft}");
            let stats = engine.world().get::<Draft>(session.0).unwrap().stats;
            assert!(stats.drafted > 0);
            if wrong == 0 {
                assert_eq!(stats.accepted, stats.drafted, "{sampler:?}");
                assert!(fewer * 3 < ticks * 2 || !engine.gpu_shards(model).is_empty(), "{fewer} of {ticks}");
            } else {
                assert!(stats.accepted < stats.drafted);
            }
            // The session goes on as if it had never speculated.
            engine.generate(session, &plain).unwrap();
            engine.wait(session).unwrap();
            let more = engine.output(session).unwrap().tokens.clone();
            let whole = [prompt, &wanted].concat();
            assert_eq!(more, answer(engine, model, &whole, &plain).1, "{sampler:?}");
        }
    }
}

#[test]
fn drafts_change_no_answer_on_the_cpu() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let cases = [(0, 8), (0, 1), (3, 8), (1, 8), (2, 16)];
    drafts_change_no_answer_of(&mut engine, model, &prompt, 50, &cases);
}

#[test]
fn a_request_ends_in_the_middle_of_a_draft() {
    let (mut engine, model, prompt) = with_oracle(&EngineOptions::default());
    let (_, text, _) = answer(&mut engine, model, &prompt, &asks(30));
    engine.world_mut().insert_resource(Oracle { prompt: prompt.len(), text: text.clone(), wrong: 0 });
    for end in 1..20 {
        let options = GenerateOptions { draft: 7, ..asks(end) };
        let (session, found, _) = answer(&mut engine, model, &prompt, &options);
        assert_eq!(found, text[..end]);
        engine.generate(session, &asks(3)).unwrap();
        engine.wait(session).unwrap();
        assert_eq!(engine.output(session).unwrap().tokens, text[end..end + 3]);
    }
    // By a stop string, and by being cancelled.
    let (session, _, _) = answer(&mut engine, model, &prompt, &asks(30));
    let whole = engine.output(session).unwrap().text.clone();
    let stop: String = whole.chars().skip(12).take(2).collect();
    let stops = |draft| GenerateOptions { stop: vec![stop.clone()], draft, ..asks(30) };
    let (plain, wanted, _) = answer(&mut engine, model, &prompt, &stops(0));
    let (drafted, found, _) = answer(&mut engine, model, &prompt, &stops(8));
    assert_eq!(found, wanted);
    assert_eq!(engine.output(drafted).unwrap().text, engine.output(plain).unwrap().text);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &GenerateOptions { draft: 8, ..asks(30) }).unwrap();
    engine.tick();
    engine.tick();
    engine.cancel(session).unwrap();
    let said = engine.output(session).unwrap().tokens.len();
    engine.generate(session, &asks(5)).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, text[said..said + 5]);
}

#[test]
fn many_sessions_speculate_together() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    // A repeated prompt, which the model with random weights need not repeat; the drafter's drafts are often wrong.
    let prompts: Vec<Vec<u32>> =
        (0..12).map(|n| prompt.iter().cycle().skip(n).take(40 + n).copied().collect()).collect();
    let drawn = |n: usize| {
        let sampler = SamplerSettings { temperature: 0.3, seed: n as u64, ..SamplerSettings::default() };
        GenerateOptions { sampler, ..asks(40) }
    };
    let wanted: Vec<_> = prompts
        .iter()
        .enumerate()
        .map(|(n, prompt)| answer(&mut engine, model, prompt, &drawn(n)).1)
        .collect();
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    for (n, session) in sessions.iter().enumerate() {
        engine.generate(*session, &GenerateOptions { draft: 8, ..drawn(n) }).unwrap();
    }
    for (session, wanted) in sessions.iter().zip(&wanted) {
        engine.wait(*session).unwrap();
        assert_eq!(&engine.output(*session).unwrap().tokens, wanted);
    }
}

#[test]
fn masked_sessions_do_not_speculate() {
    let (mut engine, model, prompt) = with_oracle(&EngineOptions::default());
    engine.world_mut().insert_resource(Oracle { prompt: prompt.len(), text: vec![2; 40], wrong: 0 });
    let session = told(&mut engine, model, &prompt);
    engine.world_mut().entity_mut(session.0).insert(TokenMask::new(320, |token| token % 2 == 0));
    engine.generate(session, &GenerateOptions { draft: 8, ..asks(20) }).unwrap();
    engine.wait(session).unwrap();
    assert!(engine.output(session).unwrap().tokens.iter().all(|token| token % 2 == 0));
    assert_eq!(engine.world().get::<Draft>(session.0).unwrap().stats.drafted, 0);
}

/// A golden model with other weights and a vocabulary of the same size.
const OTHER: &str = "tiny/tiny-mistral.gguf";

#[test]
fn a_draft_model_changes_no_answer() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    engine.world_mut().resource_mut::<AdmitOptions>().wave_cost = Some(1e6);
    // The same weights, which always draft right, and others, which rarely do.
    for (file, always) in [("tiny/tiny-llama.gguf", true), (OTHER, false)] {
        let drafter = engine.load(golden(file).as_path(), &LoadOptions::default()).unwrap();
        engine.wait_loaded(drafter).unwrap();
        for sampler in ways() {
            let greedy = sampler.temperature == 0.0;
            let plain = GenerateOptions { sampler, ..asks(40) };
            let (_, wanted, _) = answer(&mut engine, model, &prompt, &plain);
            let options = GenerateOptions { draft: 6, draft_model: Some(drafter), ..plain.clone() };
            let (session, found, _) = answer(&mut engine, model, &prompt, &options);
            assert_eq!(found, wanted);
            let stats = engine.world().get::<Draft>(session.0).unwrap().stats;
            assert!(
                stats.drafted > 0 && (!always || !greedy || stats.accepted == stats.drafted),
                "{stats:?}"
            );
            // A second request drafts on, and the drafting session goes with the one that it drafts for.
            engine.generate(session, &options).unwrap();
            engine.wait(session).unwrap();
            let drafting = engine.world().get::<DraftedBy>(session.0).and_then(DraftedBy::session).unwrap();
            engine.close(session);
            assert!(engine.world().get_entity(drafting).is_err());
        }
        engine.unload(drafter);
    }
    let session = told(&mut engine, model, &prompt);
    let itself = GenerateOptions { draft: 6, draft_model: Some(model), ..asks(4) };
    assert!(matches!(engine.generate(session, &itself), Err(weft::Error::DraftModel { .. })));
}

#[test]
fn a_draft_model_that_goes_leaves_the_answer() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let (_, wanted, _) = answer(&mut engine, model, &prompt, &asks(40));
    let drafter = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    engine.wait_loaded(drafter).unwrap();
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &GenerateOptions { draft: 6, draft_model: Some(drafter), ..asks(40) }).unwrap();
    for _ in 0..9 {
        engine.tick();
    }
    engine.unload(drafter);
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
}
