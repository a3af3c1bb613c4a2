//! Calls in any order: no page is ever lost, and each session generates what it generates alone.

use super::support::{TOKENS, asks, check_pages, cramped, engine, gated, load, reference};
use crate::common::{golden, told};
use proptest::prelude::*;
use weft::components::KvPools;
use weft::{
    Engine, FinishReason, GenerateOptions, KeepLogits, PAGE, Phase, Prompt, SessionId, SessionOptions,
};

/// A call of the API. Sessions are numbered among those that are open.
#[derive(Clone, Debug)]
enum Call {
    Open(Option<usize>),
    Append(usize, usize),
    SetContext(usize, usize, usize),
    Generate(usize, usize, usize),
    Ask(usize, usize, usize),
    Take(usize),
    Cancel(usize),
    Close(usize),
    Despawn(usize),
    Tick(usize),
    OpenGate,
    Unload,
}

fn call() -> impl Strategy<Value = Call> {
    let which = || 0usize..4;
    prop_oneof![
        4 => prop::option::weighted(0.3, 0usize..150).prop_map(Call::Open),
        6 => (which(), 0usize..40).prop_map(|(s, n)| Call::Append(s, n)),
        5 => (which(), 0usize..40, 0usize..3).prop_map(|(s, n, v)| Call::SetContext(s, n, v)),
        14 => (which(), 0usize..50, prop::sample::select(vec![0, 1, 7, 64]))
            .prop_map(|(s, n, chunk)| Call::Generate(s, n, chunk)),
        3 => (which(), 1usize..20, 0usize..9).prop_map(|(s, step, chunk)| Call::Ask(s, step, chunk)),
        2 => which().prop_map(Call::Take),
        6 => which().prop_map(Call::Cancel),
        1 => which().prop_map(Call::Close),
        1 => which().prop_map(Call::Despawn),
        10 => (1usize..40).prop_map(Call::Tick),
        1 => Just(Call::OpenGate),
        1 => prop::bool::weighted(0.1).prop_map(|gone| if gone { Call::Unload } else { Call::Tick(3) }),
    ]
}

/// The expected state of a session.
struct Expected {
    id: SessionId,
    history: Vec<u32>,
    request: Option<usize>,
    question: Option<usize>,
}

/// Compares a session with its expected state, and records what it has generated.
fn check_session(engine: &Engine, session: &mut Expected) {
    let phase = engine.phase(session.id).unwrap();
    let said = engine.output(session.id).unwrap().tokens.clone();
    let Some(max) = session.request else {
        assert_eq!(engine.history(session.id).unwrap(), session.history);
        return;
    };
    let whole: Vec<u32> = session.history.iter().chain(&said).copied().collect();
    assert_eq!(engine.history(session.id).unwrap(), whole, "the history is what was told and said");
    assert!(said.len() <= max);
    if phase.is_active() {
        return;
    }
    assert_eq!(said, reference(&session.history, said.len()), "{phase:?} {:?}", session.history);
    match phase {
        Phase::Finished(FinishReason::MaxTokens) => assert_eq!(said.len(), max),
        Phase::Finished(FinishReason::Cancelled | FinishReason::ContextFull) => {}
        other => panic!("{other:?}"),
    }
    if phase != Phase::Finished(FinishReason::MaxTokens) {
        session.question = None;
    }
    session.history = whole;
    session.request = None;
}

fn run_calls(calls: &[Call], pages: usize, max_rows: usize) {
    let (source, gate) = gated();
    let mut engine = engine(max_rows);
    let mut model = load(&mut engine, source, pages * PAGE);
    let mut sessions: Vec<Expected> = Vec::new();
    let words = |n: usize, variant: usize| -> Vec<u32> {
        TOKENS.iter().cycle().skip(variant).take(n).map(|t| (t + variant as u32 * 5) % 320).collect()
    };
    let start = [Call::Open(None), Call::Append(0, 9), Call::Open(None), Call::Append(1, 20)];
    for call in start.iter().chain(calls) {
        let open = sessions.len().max(1);
        let at = |which: &usize| which % open;
        match call {
            Call::Open(context) => {
                let options = SessionOptions { context: *context, ..SessionOptions::default() };
                if sessions.len() < 4 {
                    let id = engine.open_session(model, &options).unwrap();
                    sessions.push(Expected { id, history: vec![], request: None, question: None });
                }
            }
            Call::Tick(count) => (0..*count).for_each(|_| _ = engine.tick()),
            Call::OpenGate => gate.open(),
            Call::Unload => {
                engine.unload(model);
                check_pages(&mut engine, model);
                sessions.clear();
                model = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), pages * PAGE);
            }
            _ if sessions.is_empty() => {}
            Call::Append(which, n) => {
                let session = &mut sessions[at(which)];
                let tokens = words(*n, session.history.len() % 3);
                if engine.append(session.id, Prompt::Tokens(tokens.clone())).is_ok() {
                    session.history.extend(tokens);
                }
            }
            Call::SetContext(which, n, variant) => {
                let session = &mut sessions[at(which)];
                let mut tokens = session.history[..session.history.len() / 2].to_vec();
                tokens.extend(words(*n, *variant));
                if engine.set_context(session.id, tokens.clone()).is_ok() {
                    session.history = tokens;
                }
            }
            Call::Generate(which, max, chunk) => {
                let session = &mut sessions[at(which)];
                let options = GenerateOptions { prefill_chunk: *chunk, ..asks(*max) };
                if engine.generate(session.id, &options).is_ok() {
                    session.request = Some(*max);
                }
            }
            Call::Ask(which, step, chunk) => {
                let session = &mut sessions[at(which)];
                let positions: Vec<usize> = (0..session.history.len()).step_by(*step).collect();
                let count = positions.len();
                if engine.ask_logits(session.id, positions, KeepLogits::Row, *chunk).is_ok() {
                    (session.request, session.question) = (Some(0), Some(count));
                }
            }
            Call::Take(which) => {
                let session = &mut sessions[at(which)];
                let kept = engine.take_logits(session.id).unwrap().rows.len();
                match session.question.take() {
                    Some(count) if session.request.is_none() => assert_eq!(kept, count, "logits asked for"),
                    _ => {}
                }
            }
            Call::Cancel(which) => {
                engine.cancel(sessions[at(which)].id).unwrap();
            }
            Call::Close(which) => {
                let session = sessions.remove(at(which));
                engine.close(session.id);
            }
            Call::Despawn(which) => {
                let session = sessions.remove(at(which));
                engine.world_mut().despawn(session.id.0);
            }
        }
        sessions.iter_mut().for_each(|session| check_session(&engine, session));
        check_pages(&mut engine, model);
    }
    gate.open();
    engine.wait_loaded(model).unwrap();
    let mut ticks = 0;
    while sessions.iter().any(|session| engine.phase(session.id).unwrap().is_active()) {
        engine.tick();
        ticks += 1;
        assert!(ticks < 20_000, "no end in sight");
    }
    for session in &mut sessions {
        check_session(&engine, session);
        engine.close(session.id);
    }
    engine.clear_prefix_cache(model).unwrap();
    let pool = engine.world().get::<KvPools>(model.0).unwrap();
    assert_eq!(pool.free(), pool.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_in_any_order(
        calls in prop::collection::vec(call(), 1..80),
        pages in 1usize..7,
        max_rows in prop::sample::select(vec![1usize, 2, 5, 16, 512]),
    ) {
        run_calls(&calls, pages, max_rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Admission makes progress: a session that fits into the cache alone gets its complete answer, whatever the others
    /// want.
    #[test]
    fn any_sessions_share_any_cache(
        wants in prop::collection::vec((1usize..100, 1usize..90, 0usize..40, 0usize..60), 1..8),
        pages in 1usize..8,
        max_rows in prop::sample::select(vec![1usize, 2, 3, 16, 512]),
    ) {
        let (mut engine, model) = cramped(pages, max_rows);
        // A tuple holds the tokens of prompt, answer and chunk, and the first tick.
        let fitting = wants.iter().filter(|(prompt, answer, ..)| prompt + answer <= pages * PAGE);
        let mut sessions: Vec<_> = fitting
            .map(|want| {
                let prompt: Vec<u32> = TOKENS.iter().cycle().skip(want.2).take(want.0).copied().collect();
                (told(&mut engine, model, &prompt), prompt, *want)
            })
            .collect();
        let tokens: usize = sessions.iter().map(|(.., want)| want.0 + want.1).sum();
        let bound = 100 + 60 + 20 * tokens * pages;
        let mut tick = 0;
        loop {
            for (session, _, want) in sessions.iter().filter(|(.., want)| want.3 == tick) {
                let options = GenerateOptions { prefill_chunk: want.2, ..asks(want.1) };
                engine.generate(*session, &options).unwrap();
            }
            engine.tick();
            tick += 1;
            check_pages(&mut engine, model);
            let at_work = |session: &SessionId| engine.phase(*session).unwrap().is_active();
            if tick > 60 && !sessions.iter().any(|(session, ..)| at_work(session)) {
                break;
            }
            prop_assert!(tick < bound, "no end in sight");
        }
        for (session, prompt, want) in sessions.drain(..) {
            prop_assert_eq!(engine.phase(session).unwrap(), Phase::Finished(FinishReason::MaxTokens));
            prop_assert_eq!(&engine.output(session).unwrap().tokens, &reference(&prompt, want.1));
        }
    }
}
