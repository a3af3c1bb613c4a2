//! Many sessions that come and go: neither memory nor the world's bookkeeping grows.

use crate::common::requests::{asks, tiny};
use crate::common::{golden, told};
use weft::components::{BlockTable, SessionEvent};
use weft::{
    Engine, EngineOptions, GenerateOptions, LoadOptions, ModelId, Prompt, SamplerSettings, SessionId,
    SessionOptions,
};

/// Number of removed block tables that the world remembers: one per session.
fn remembered(engine: &Engine) -> usize {
    engine.world().removed::<BlockTable>().count()
}

fn messages(engine: &Engine) -> usize {
    engine.world().resource::<bevy_ecs::message::Messages<SessionEvent>>().len()
}

#[test]
fn removals_are_forgotten_within_two_ticks() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let mut most = 0;
    for _ in 0..300 {
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(1)).unwrap();
        engine.wait(session).unwrap();
        engine.close(session);
        most = most.max(remembered(&engine));
    }
    assert!(most <= 2, "{most} removals are remembered");
    engine.tick();
    engine.tick();
    assert_eq!((remembered(&engine), messages(&engine)), (0, 0));
}

#[test]
fn a_program_that_never_ticks_forgets_too() {
    let (mut engine, model, tokens) = tiny(&EngineOptions::default());
    let (mut removals, mut told_of) = (0, 0);
    for _ in 0..5000 {
        let session = told(&mut engine, model, &tokens[..1]);
        engine.generate(session, &asks(1)).unwrap();
        engine.cancel(session).unwrap();
        engine.close(session);
        removals = removals.max(remembered(&engine));
        told_of = told_of.max(messages(&engine));
    }
    assert!(removals <= 2048 && told_of <= 2048, "{removals} removals, {told_of} messages");
}

/// One request of each kind: greedy, sampled, with penalties and stop strings, and a prompt without an answer.
fn request(number: usize) -> GenerateOptions {
    let drawn = SamplerSettings { temperature: 0.9, seed: number as u64, ..SamplerSettings::default() };
    let penalties =
        SamplerSettings { repetition_penalty: 1.2, top_k: 20, logprobs: Some(2), ..drawn.clone() };
    match number % 5 {
        0 => asks(0),
        1 => asks(2),
        2 => GenerateOptions { sampler: drawn, ..asks(2) },
        3 => GenerateOptions { sampler: penalties, ..asks(3) },
        _ => GenerateOptions { stop: vec!["\n\n".to_owned(), "a".to_owned()], ..asks(2) },
    }
}

/// Opens, uses and closes sessions, several at a time. Some are closed in the middle of an answer, and one gets no
/// request.
fn come_and_go(engine: &mut Engine, model: ModelId, sessions: core::ops::Range<usize>) {
    const TOGETHER: usize = 20;
    for first in sessions.step_by(TOGETHER) {
        let opened: Vec<SessionId> = (first..first + TOGETHER)
            .map(|number| {
                let session = engine.open_session(model, &SessionOptions::default()).unwrap();
                let length = 1 + number % 7;
                let tokens = (0..length).map(|at| ((number * 31 + at * 7) % 300) as u32).collect();
                engine.append(session, Prompt::Tokens(tokens)).unwrap();
                if number % TOGETHER != 7 {
                    engine.generate(session, &request(number)).unwrap();
                }
                session
            })
            .collect();
        engine.tick();
        engine.close(opened[3]);
        for (number, session) in opened.into_iter().enumerate() {
            if !matches!(number, 3 | 7) {
                engine.wait(session).unwrap();
                let _ = engine.read(session).unwrap();
            }
            engine.close(session);
        }
    }
}

/// Resident memory of this process in bytes. The test runner gives each test a process of its own.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The page size of every Linux machine that the engine's tests run on.
    pages * 4096
}

/// With `WEFT_SOAK=1`, opens, uses and closes 100,000 sessions; otherwise a twentieth of them.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_sessions_that_are_closed() {
    /// Maximum growth in bytes over 99,000 sessions.
    const MOST: usize = 2 << 20;
    /// Growth in bytes that the allocator may show with any number of sessions.
    const NOISE: usize = 256 << 10;
    let full = std::env::var_os("WEFT_SOAK").is_some_and(|value| value == "1");
    let sessions = if full { 100_000 } else { 5_000 };
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let load = LoadOptions { kv_tokens: Some(2048), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    come_and_go(&mut engine, model, 0..1000);
    let before = resident();
    come_and_go(&mut engine, model, 1000..sessions);
    let grown = resident().saturating_sub(before);
    let allowed = if full { MOST } else { NOISE + MOST / 20 };
    println!("{sessions} sessions: {grown} bytes more than after the first 1000, {before} bytes");
    assert!(grown <= allowed, "{grown} bytes more after {sessions} sessions than after 1000");
}
