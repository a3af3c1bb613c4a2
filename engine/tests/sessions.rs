//! Sessions: how requests end, how contexts are kept, shared out and returned.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{golden, golden_json, greedy, ids, loaded, told};
use weft::components::{KvPage, KvPool};
use weft::{
    Engine, EngineOptions, Error, FinishReason, GenerateOptions, LoadOptions, ModelId, PAGE, Phase, Prompt,
    SamplerSettings, SessionOptions, SpecialTokens,
};

fn tiny() -> (Engine, ModelId, Vec<u32>) {
    let (engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    (engine, model, ids(&golden_json("tiny/tiny-llama.json")["tokens"]))
}

/// An engine whose KV cache holds `tokens`.
fn cramped(tokens: usize) -> (Engine, ModelId) {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let options = LoadOptions { kv_tokens: Some(tokens), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &options).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn asks(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerateOptions::default() }
}

fn free_pages(engine: &Engine, model: ModelId) -> (usize, usize) {
    let pool = engine.world().get::<KvPool>(model.0).unwrap();
    (pool.free(), pool.capacity())
}

#[test]
fn despawned_sessions_return_their_pages() {
    let (mut engine, model, tokens) = tiny();
    let sessions: Vec<_> = (0..5).map(|_| told(&mut engine, model, &tokens.repeat(3))).collect();
    for session in &sessions {
        engine.generate(*session, &asks(40)).unwrap();
    }
    for _ in 0..7 {
        engine.tick();
    }
    let (free, capacity) = free_pages(&engine, model);
    assert_eq!(capacity - free, 5 * (tokens.len() * 3 + 7).div_ceil(PAGE));
    assert_eq!(engine.world_mut().query::<&KvPage>().iter(engine.world()).count(), capacity - free);
    // However a session dies: closed, despawned behind the engine's back, in the middle of an answer.
    engine.close(sessions[0]);
    engine.world_mut().despawn(sessions[1].0);
    for session in &sessions[2..] {
        engine.wait(*session).unwrap();
        engine.close(*session);
    }
    assert_eq!(free_pages(&engine, model), (capacity, capacity));
    assert_eq!(engine.world_mut().query::<&KvPage>().iter(engine.world()).count(), 0);
}

#[test]
fn a_full_context_is_a_typed_end() {
    let (mut engine, model, tokens) = tiny();
    let session = engine.open_session(model, &SessionOptions { context: Some(40) }).unwrap();
    engine.append(session, Prompt::Tokens(tokens.clone())).unwrap();
    engine.generate(session, &GenerateOptions { ignore_end: true, ..GenerateOptions::default() }).unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::ContextFull);
    // Every position is used, and the last token, which would need one more, is still told.
    assert_eq!(engine.history(session).unwrap().len(), 41);
    let text = engine.output(session).unwrap().tokens.clone();
    assert_eq!(text, greedy(&mut engine, model, &tokens, 17));
    // A prompt that is too long is refused at once, and changes nothing.
    let error = engine.append(session, Prompt::Tokens(vec![1])).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { tokens: 42, limit: 40 }), "{error}");
    assert_eq!(engine.history(session).unwrap().len(), 41);
}

#[test]
fn sessions_that_do_not_fit_together_wait_and_lose_nothing() {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let (mut engine, model) = cramped(4 * PAGE);
    let prompts: Vec<Vec<u32>> =
        (1..=5).map(|n| tokens.iter().cycle().skip(n).take(20 + n).copied().collect()).collect();
    let expected: Vec<_> = prompts.iter().map(|prompt| greedy(&mut engine, model, prompt, 50)).collect();
    let sessions: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let session = told(&mut engine, model, prompt);
            engine.generate(session, &asks(50)).unwrap();
            session
        })
        .collect();
    for (session, expected) in sessions.iter().zip(&expected) {
        assert_eq!(engine.wait(*session).unwrap(), FinishReason::MaxTokens);
        assert_eq!(&engine.output(*session).unwrap().tokens, expected);
    }
    // Those whose pages were taken go on where they were, since their tokens were kept.
    engine.generate(sessions[0], &asks(5)).unwrap();
    engine.wait(sessions[0]).unwrap();
    let whole: Vec<u32> = prompts[0].iter().chain(&expected[0]).copied().collect();
    let further = engine.output(sessions[0]).unwrap().tokens.clone();
    sessions.iter().for_each(|session| engine.close(*session));
    assert_eq!(further, greedy(&mut engine, model, &whole, 5));
}

#[test]
fn a_session_larger_than_the_cache_ends_with_a_full_context() {
    let (mut engine, model) = cramped(PAGE);
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &GenerateOptions { ignore_end: true, ..GenerateOptions::default() }).unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::ContextFull);
    assert_eq!(engine.history(session).unwrap().len(), PAGE + 1);
}

#[test]
fn turns_keep_the_context() {
    let (mut engine, model, tokens) = tiny();
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    let first = engine.output(session).unwrap().tokens.clone();
    engine.append(session, Prompt::Tokens(vec![5, 6, 7])).unwrap();
    engine.generate(session, &asks(9)).unwrap();
    let mut rows = 0;
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        rows += 1;
    }
    assert!(rows <= 10, "the context was computed again");
    let second = engine.output(session).unwrap().tokens.clone();
    let whole: Vec<u32> = tokens.iter().chain(&first).chain(&[5, 6, 7]).copied().collect();
    assert_eq!(second, greedy(&mut engine, model, &whole, 9));
    // A context that departs from the cached one keeps what they share.
    let mut other = whole[..20].to_vec();
    other.extend([9, 9, 9]);
    engine.set_context(session, other.clone()).unwrap();
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    let third = engine.output(session).unwrap().tokens.clone();
    assert_eq!(third, greedy(&mut engine, model, &other, 9));
}

#[test]
fn cancel_stops_one_session_and_no_other() {
    let (mut engine, model, tokens) = tiny();
    let expected = greedy(&mut engine, model, &tokens, 30);
    let kept = told(&mut engine, model, &tokens);
    let dropped = told(&mut engine, model, &tokens[..7]);
    engine.generate(kept, &asks(30)).unwrap();
    engine.generate(dropped, &asks(1000)).unwrap();
    for _ in 0..5 {
        engine.tick();
    }
    assert!(matches!(engine.append(dropped, Prompt::Tokens(vec![1])), Err(Error::Busy)));
    engine.cancel(dropped).unwrap();
    assert_eq!(engine.wait(dropped).unwrap(), FinishReason::Cancelled);
    let said = engine.output(dropped).unwrap().tokens.len();
    engine.wait(kept).unwrap();
    assert_eq!(engine.output(kept).unwrap().tokens, expected);
    assert_eq!(engine.output(dropped).unwrap().tokens.len(), said);
    // It can be taken up again.
    engine.generate(dropped, &asks(2)).unwrap();
    assert_eq!(engine.wait(dropped).unwrap(), FinishReason::MaxTokens);
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let (mut engine, model, tokens) = tiny();
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(16)).unwrap();
    engine.wait(session).unwrap();
    let whole = engine.output(session).unwrap().text.clone();
    let cut = whole.char_indices().nth(5).unwrap().0;
    let stop: String = whole[cut..].chars().take(3).collect();
    let before = &whole[..whole.find(&stop).unwrap()];
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &GenerateOptions { stop: vec!["never said".into(), stop], ..asks(16) }).unwrap();
    let mut streamed = String::new();
    while let Some(piece) = engine.next_piece(session).unwrap() {
        streamed.push_str(&piece);
    }
    assert_eq!(engine.wait(session).unwrap(), FinishReason::StopString);
    assert_eq!(streamed, before);
}

#[test]
fn end_of_generation_ends_unless_ignored() {
    let (mut engine, model, tokens) = tiny();
    let end = engine.tokenizer(model).unwrap().end_of_generation()[0];
    let sampler = SamplerSettings { logit_bias: vec![(end, 1000.0)], ..SamplerSettings::default() };
    let session = told(&mut engine, model, &tokens);
    engine
        .generate(session, &GenerateOptions { sampler: sampler.clone(), ..GenerateOptions::default() })
        .unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::EndOfGeneration);
    assert_eq!(engine.output(session).unwrap().tokens, [end]);
    assert_eq!(engine.output(session).unwrap().text, "");
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &GenerateOptions { sampler, ..asks(4) }).unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, [end; 4]);
}

#[test]
fn the_same_seed_gives_the_same_text_in_any_company() {
    let (mut engine, model, tokens) = tiny();
    let sampled = |seed| GenerateOptions {
        sampler: SamplerSettings {
            temperature: 1.3,
            top_p: 0.95,
            seed,
            logprobs: Some(3),
            ..SamplerSettings::default()
        },
        ..asks(20)
    };
    let mut texts = Vec::new();
    for company in [0, 3] {
        let others: Vec<_> = (0..company).map(|_| told(&mut engine, model, &tokens[..9])).collect();
        for (n, other) in others.iter().enumerate() {
            engine.generate(*other, &sampled(n as u64 + 100)).unwrap();
        }
        for seed in [1, 2] {
            let session = told(&mut engine, model, &tokens);
            engine.generate(session, &sampled(seed)).unwrap();
            engine.wait(session).unwrap();
            let output = engine.output(session).unwrap();
            assert_eq!(output.logprobs.len(), 20);
            assert!(output.logprobs.iter().all(|l| l.top.len() == 3 && l.logprob <= l.top[0].1));
            texts.push(output.tokens.clone());
        }
    }
    assert_eq!(texts[0], texts[2]);
    assert_eq!(texts[1], texts[3]);
    assert_ne!(texts[0], texts[1]);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (mut engine, model, _) = tiny();
    let session = engine.open_session(model, &SessionOptions::default()).unwrap();
    assert!(matches!(engine.generate(session, &asks(1)), Err(Error::EmptyPrompt)));
    assert!(matches!(
        engine.append(session, Prompt::Tokens(vec![320])),
        Err(Error::UnknownToken { token: 320, .. })
    ));
    let nonsense = SamplerSettings { temperature: f32::NAN, ..SamplerSettings::default() };
    engine.append(session, Prompt::Tokens(vec![1])).unwrap();
    let options = GenerateOptions { sampler: nonsense, ..asks(1) };
    assert!(matches!(engine.generate(session, &options), Err(Error::Sample(_))));
    assert_eq!(engine.phase(session).unwrap(), Phase::Idle);
    let text = Prompt::Text { text: "hello".into(), special: SpecialTokens::AsText };
    engine.append(session, text).unwrap();
    engine.close(session);
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
    assert!(matches!(engine.generate(session, &asks(1)), Err(Error::NoSession)));
}

#[test]
fn thousands_of_sessions_get_their_turn() {
    let mut engine = Engine::new(&EngineOptions { max_rows: Some(16), ..EngineOptions::default() }).unwrap();
    let options = LoadOptions { kv_tokens: Some(200 * PAGE), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &options).unwrap();
    engine.wait_loaded(model).unwrap();
    let expected: Vec<_> = (0..4).map(|n| greedy(&mut engine, model, &[n, 7, 9], 4)).collect();
    let sessions: Vec<_> = (0..1000)
        .map(|n| {
            let session = told(&mut engine, model, &[n % 4, 7, 9]);
            engine.generate(session, &asks(4)).unwrap();
            session
        })
        .collect();
    for (n, session) in sessions.iter().enumerate() {
        engine.wait(*session).unwrap();
        assert_eq!(engine.output(*session).unwrap().tokens, expected[n % 4], "session {n}");
    }
}
