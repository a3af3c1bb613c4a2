//! Sessions: how requests end, and how contexts are kept, shared and freed.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::requests::{self, asks, tiny};
use crate::common::{greedy, loaded, smollm2, told};
use bevy_ecs::prelude::*;
use weft::components::{KvPage, KvPools, TurnStarts, Wave, WaveLimits};
use weft::{
    ChatOptions, Engine, EngineOptions, Error, Message, ModelId, PAGE, Phase, Prompt, SamplerSettings,
    SessionId, SessionOptions, SpecialTokens, Tick, TickSet,
};

fn free_pages(engine: &Engine, model: ModelId) -> (usize, usize) {
    let pool = engine.world().get::<KvPools>(model.0).unwrap();
    (pool.free(), pool.capacity())
}

#[test]
fn despawned_sessions_return_their_pages() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let sessions: Vec<_> = (0..5).map(|_| told(&mut engine, model, &tokens.repeat(3))).collect();
    for session in &sessions {
        engine.generate(*session, &asks(40)).unwrap();
    }
    for _ in 0..7 {
        engine.tick();
    }
    let (free, capacity) = free_pages(&engine, model);
    // Each has the whole pages of the prompt in common with the others, and a page of its own.
    let (prompt, now) = (tokens.len() * 3 / PAGE, (tokens.len() * 3 + 7).div_ceil(PAGE));
    assert_eq!(capacity - free, prompt + 5 * (now - prompt));
    assert_eq!(engine.world_mut().query::<&KvPage>().iter(engine.world()).count(), capacity - free);
    // Sessions that end in different ways: closed, despawned without the engine's knowledge, in the middle of an
    // answer.
    engine.close(sessions[0]);
    engine.world_mut().despawn(sessions[1].0);
    for session in &sessions[2..] {
        engine.wait(*session).unwrap();
        engine.close(*session);
    }
    let cached = engine.world_mut().query::<&KvPage>().iter(engine.world()).count();
    assert_eq!(free_pages(&engine, model), (capacity - cached, capacity));
    engine.clear_prefix_cache(model).unwrap();
    assert_eq!(free_pages(&engine, model), (capacity, capacity));
    assert_eq!(engine.world_mut().query::<&KvPage>().iter(engine.world()).count(), 0);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (mut engine, model, _) = tiny(&EngineOptions::default());
    let session = engine.open_session(model, &SessionOptions::default()).unwrap();
    assert!(matches!(engine.generate(session, &asks(1)), Err(Error::EmptyPrompt)));
    assert!(matches!(
        engine.append(session, Prompt::Tokens(vec![320])),
        Err(Error::UnknownToken { token: 320, .. })
    ));
    let nonsense = SamplerSettings { temperature: f32::NAN, ..SamplerSettings::default() };
    engine.append(session, Prompt::Tokens(vec![1])).unwrap();
    let options = weft::GenerateOptions { sampler: nonsense, ..asks(1) };
    assert!(matches!(engine.generate(session, &options), Err(Error::Sample(_))));
    assert_eq!(engine.phase(session).unwrap(), Phase::Idle);
    let text = Prompt::Text { text: "hello".into(), special: SpecialTokens::AsText };
    engine.append(session, text).unwrap();
    engine.close(session);
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
    assert!(matches!(engine.generate(session, &asks(1)), Err(Error::NoSession)));
}

#[test]
fn a_full_context_is_a_typed_end() {
    requests::a_full_context_is_a_typed_end(&EngineOptions::default());
}

#[test]
fn sessions_that_do_not_fit_together_wait_and_lose_nothing() {
    requests::sessions_that_do_not_fit_together_wait_and_lose_nothing(&EngineOptions::default());
}

#[test]
fn a_session_larger_than_the_cache_ends_with_a_full_context() {
    requests::a_session_larger_than_the_cache_ends_with_a_full_context(&EngineOptions::default());
}

#[test]
fn turns_keep_the_context() {
    requests::turns_keep_the_context(&EngineOptions::default());
}

#[test]
fn cancel_stops_one_session_and_no_other() {
    requests::cancel_stops_one_session_and_no_other(&EngineOptions::default());
}

#[test]
fn stop_strings_end_the_text_before_them() {
    requests::stop_strings_end_the_text_before_them(&EngineOptions::default());
}

#[test]
fn end_of_generation_ends_unless_ignored() {
    requests::end_of_generation_ends_unless_ignored(&EngineOptions::default());
}

#[test]
fn the_same_seed_gives_the_same_text_in_any_company() {
    requests::the_same_seed_gives_the_same_text_in_any_company(&EngineOptions::default());
}

#[test]
fn thousands_of_sessions_get_their_turn() {
    requests::more_sessions_than_fit_get_their_turn(&EngineOptions::default(), 1000);
}

#[test]
fn waves_keep_to_the_pages_that_a_device_has_room_for() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let prompts: Vec<Vec<u32>> = (0..6).map(|n| tokens.repeat(1 + n % 3)).collect();
    let wanted: Vec<_> = prompts.iter().map(|prompt| greedy(&mut engine, model, prompt, 40)).collect();
    // Each session uses two to four pages in the end.
    const PAGES: usize = 5;
    engine.world_mut().get_mut::<WaveLimits>(model.0).unwrap().pages = PAGES;
    let sessions: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let session = told(&mut engine, model, prompt);
            engine.generate(session, &asks(40)).unwrap();
            session
        })
        .collect();
    // A wave is emptied at the end of a tick, so its pages are counted when it reaches the output head.
    engine.world_mut().init_resource::<MostPages>();
    engine.world_mut().schedule_scope(Tick, |_, tick| {
        tick.add_systems(see_pages.in_set(TickSet::Head));
    });
    for (session, wanted) in sessions.iter().zip(&wanted) {
        engine.wait(*session).unwrap();
        assert_eq!(&engine.output(*session).unwrap().tokens, wanted);
    }
    let most = engine.world().resource::<MostPages>().0;
    assert!((2..=PAGES).contains(&most), "{most} pages in a wave");
}

/// The maximum number of pages in a wave.
#[derive(Resource, Default)]
struct MostPages(usize);

fn see_pages(waves: Query<'_, '_, &Wave>, mut most: ResMut<'_, MostPages>) {
    waves.iter().for_each(|wave| most.0 = most.0.max(wave.pages()));
}

#[test]
fn a_full_context_may_drop_its_oldest_half() {
    use weft::components::SessionEvent;
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let small = SessionOptions { context: Some(64), ..SessionOptions::default() };
    let session = engine.open_session(model, &small).unwrap();
    engine.append(session, Prompt::Tokens(tokens.clone())).unwrap();
    let when_full = weft::WhenFull::Shift { keep: 5 };
    engine.generate(session, &weft::GenerateOptions { when_full, ..asks(120) }).unwrap();
    let mut events = engine.world().resource::<Messages<SessionEvent>>().get_cursor();
    let mut shifts = Vec::new();
    let mut said = Vec::new();
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        let messages = engine.world().resource::<Messages<SessionEvent>>();
        for event in events.read(messages) {
            if let weft::components::SessionEventKind::Shifted(dropped) = event.kind {
                // What follows is what the model says after the tokens that are left.
                shifts.push(dropped);
                said.push((
                    engine.history(session).unwrap().to_vec(),
                    engine.output(session).unwrap().tokens.len(),
                ));
            }
        }
    }
    assert_eq!(engine.output(session).unwrap().tokens.len(), 120);
    assert!(shifts.len() >= 3 && shifts[0] == 30, "{shifts:?}");
    let whole = engine.output(session).unwrap().tokens.clone();
    for (context, at) in said {
        assert_eq!(context[..5], tokens[..5]);
        let next = greedy(&mut engine, model, &context, 8);
        assert_eq!(next[..], whole[at..(at + 8).min(whole.len())][..]);
    }
}

#[test]
fn a_full_context_drops_whole_turns() {
    use weft::components::{SessionEvent, SessionEventKind};
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let small = SessionOptions { context: Some(64), ..SessionOptions::default() };
    let session = engine.open_session(model, &small).unwrap();
    let say = |engine: &mut Engine, tokens: &[u32], answer: usize| {
        engine.append(session, Prompt::Tokens(tokens.to_vec())).unwrap();
        let when_full = weft::WhenFull::Shift { keep: 5 };
        engine.generate(session, &weft::GenerateOptions { when_full, ..asks(answer) }).unwrap();
        engine.wait(session).unwrap();
    };
    // A system message, and turns of 18 tokens: the fourth does not fit.
    engine.append(session, Prompt::Tokens(tokens[..5].to_vec())).unwrap();
    for turn in 1..=3 {
        say(&mut engine, &tokens[turn..turn + 8], 10);
    }
    let before = engine.history(session).unwrap().to_vec();
    assert_eq!(engine.world().get::<TurnStarts>(session.0).unwrap().0, [0, 5, 23, 41]);
    let mut events = engine.world().resource::<Messages<SessionEvent>>().get_cursor();
    engine.append(session, Prompt::Tokens(tokens[..4].to_vec())).unwrap();
    let when_full = weft::WhenFull::Shift { keep: 5 };
    engine.generate(session, &weft::GenerateOptions { when_full, ..asks(10) }).unwrap();
    let mut shifts = Vec::new();
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        let messages = engine.world().resource::<Messages<SessionEvent>>();
        shifts.extend(events.read(messages).filter_map(|event| match event.kind {
            SessionEventKind::Shifted(dropped) => Some(dropped),
            _ => None,
        }));
    }
    // The first two turns are at least half; the third and the fourth stay whole.
    assert_eq!(shifts, [36]);
    let after = engine.history(session).unwrap();
    assert_eq!((&after[..5], &after[5..23]), (&before[..5], &before[41..59]));
    assert_eq!(engine.world().get::<TurnStarts>(session.0).unwrap().0, [0, 5, 23]);
    // A snapshot has them.
    let bytes = engine.snapshot(session, false).unwrap();
    let restored = engine.restore(model, &bytes).unwrap();
    assert_eq!(engine.world().get::<TurnStarts>(restored.0).unwrap().0, [0, 5, 23]);
}

#[test]
fn a_context_that_goes_on_from_what_was_there_is_a_turn() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let session = engine.open_session(model, &SessionOptions::default()).unwrap();
    let turns =
        |engine: &Engine, session: SessionId| engine.world().get::<TurnStarts>(session.0).unwrap().0.clone();
    let [a, b, c] = [&tokens[..9], &tokens[9..15], &tokens[3..11]];
    engine.set_context(session, a.to_vec()).unwrap();
    assert!(turns(&engine, session).is_empty(), "it is the beginning");
    engine.set_context(session, [a, b].concat()).unwrap();
    assert_eq!(turns(&engine, session), [9]);
    engine.set_context(session, [a, b, c].concat()).unwrap();
    assert_eq!(turns(&engine, session), [9, 15]);
    // A fork has the same turns, and goes its own way.
    let fork = engine.fork(session).unwrap();
    assert_eq!(turns(&engine, fork), [9, 15]);
    engine.append(fork, Prompt::Tokens(b.to_vec())).unwrap();
    assert_eq!((turns(&engine, fork), turns(&engine, session)), (vec![9, 15, 23], vec![9, 15]));
    // The same again, less, and something else within a turn.
    engine.set_context(session, [a, b, c].concat()).unwrap();
    assert_eq!(turns(&engine, session), [9, 15]);
    engine.set_context(session, [a, b].concat()).unwrap();
    assert_eq!(turns(&engine, session), [9]);
    engine.set_context(session, [a, &b[..4], &[299; 3]].concat()).unwrap();
    assert_eq!(turns(&engine, session), [9, 13]);
    engine.set_context(session, [&[298], b].concat()).unwrap();
    assert!(turns(&engine, session).is_empty(), "nothing is left of what was there");
    // What is refused changes nothing.
    engine.set_context(session, [&[298], b, c].concat()).unwrap();
    assert!(engine.set_context(session, vec![298, 999]).is_err());
    assert_eq!(turns(&engine, session), [7]);
}

/// Also if all of them are set at once, and of many messages some.
#[test]
fn messages_of_the_user_start_turns() {
    let (mut engine, model) = loaded(&smollm2());
    let whole = ChatOptions { no_generation_prompt: true, ..ChatOptions::default() };
    let talk = |questions: usize| {
        let said = |n| {
            [
                Message::new("user", format!("Tell me of {n} <|im_start|>user")),
                Message::new("assistant", "No."),
            ]
        };
        [Message::new("system", "Be brief.")]
            .into_iter()
            .chain((0..questions).flat_map(said))
            .collect::<Vec<_>>()
    };
    for (questions, turns) in [(0, 0), (1, 1), (3, 3), (16, 16), (40, 14)] {
        let messages = talk(questions);
        let session = engine.open_session(model, &SessionOptions::default()).unwrap();
        engine.set_messages(session, &messages).unwrap();
        let starts = engine.world().get::<TurnStarts>(session.0).unwrap().0.clone();
        let users: Vec<usize> = (0..questions)
            .map(|n| engine.chat_tokens(model, &messages[..1 + 2 * n], &whole).unwrap().len())
            .collect();
        assert!(starts.iter().all(|start| users.contains(start)), "{starts:?} {users:?}");
        assert_eq!(starts.len(), turns, "of {questions} questions");
        assert!(starts.is_sorted());
    }
}

#[test]
fn a_session_that_no_wave_has_pages_for_ends_with_a_full_context() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    engine.world_mut().get_mut::<WaveLimits>(model.0).unwrap().pages = 1;
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(100)).unwrap();
    assert_eq!(engine.wait(session).unwrap(), weft::FinishReason::ContextFull);
    assert_eq!(engine.history(session).unwrap().len(), PAGE + 1);
}
