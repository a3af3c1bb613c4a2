//! Tests of requests and contexts for any backend: how requests end, and what is kept of a context. The caller gives
//! the engine's options.

use super::{golden, golden_json, greedy, ids, loaded_with, told};
use weft::{
    Engine, EngineOptions, Error, FinishReason, GenerateOptions, LoadOptions, ModelId, PAGE, Prompt,
    SamplerSettings, SessionOptions,
};

/// tiny-llama and its golden prompt.
pub fn tiny(options: &EngineOptions) -> (Engine, ModelId, Vec<u32>) {
    let (engine, model) = loaded_with(&golden("tiny/tiny-llama.gguf"), options);
    (engine, model, ids(&golden_json("tiny/tiny-llama.json")["tokens"]))
}

/// An engine whose KV cache holds `tokens` tokens.
fn cramped(options: &EngineOptions, tokens: usize) -> (Engine, ModelId) {
    let mut engine = Engine::new(options).unwrap();
    let load = LoadOptions { kv_tokens: Some(tokens), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

/// Options for a greedy answer of this many tokens.
pub fn asks(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerateOptions::default() }
}

pub fn a_full_context_is_a_typed_end(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
    let session = engine
        .open_session(model, &SessionOptions { context: Some(40), ..SessionOptions::default() })
        .unwrap();
    engine.append(session, Prompt::Tokens(tokens.clone())).unwrap();
    engine.generate(session, &GenerateOptions { ignore_end: true, ..GenerateOptions::default() }).unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::ContextFull);
    // Every position is used. The last token, which would need one more, is still returned.
    assert_eq!(engine.history(session).unwrap().len(), 41);
    let text = engine.output(session).unwrap().tokens.clone();
    assert_eq!(text, greedy(&mut engine, model, &tokens, 17));
    // A prompt that is too long is refused at once and changes nothing.
    let error = engine.append(session, Prompt::Tokens(vec![1])).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { tokens: 42, limit: 40 }), "{error}");
    assert_eq!(engine.history(session).unwrap().len(), 41);
}

pub fn sessions_that_do_not_fit_together_wait_and_lose_nothing(options: &EngineOptions) {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let (mut engine, model) = cramped(options, 4 * PAGE);
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
    // A preempted session continues where it was, because its tokens were kept.
    engine.generate(sessions[0], &asks(5)).unwrap();
    engine.wait(sessions[0]).unwrap();
    let whole: Vec<u32> = prompts[0].iter().chain(&expected[0]).copied().collect();
    let further = engine.output(sessions[0]).unwrap().tokens.clone();
    sessions.iter().for_each(|session| engine.close(*session));
    assert_eq!(further, greedy(&mut engine, model, &whole, 5));
}

pub fn a_session_larger_than_the_cache_ends_with_a_full_context(options: &EngineOptions) {
    let (mut engine, model) = cramped(options, PAGE);
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &GenerateOptions { ignore_end: true, ..GenerateOptions::default() }).unwrap();
    assert_eq!(engine.wait(session).unwrap(), FinishReason::ContextFull);
    assert_eq!(engine.history(session).unwrap().len(), PAGE + 1);
}

pub fn turns_keep_the_context(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    let first = engine.output(session).unwrap().tokens.clone();
    engine.append(session, Prompt::Tokens(vec![5, 6, 7])).unwrap();
    engine.generate(session, &asks(9)).unwrap();
    let mut ticks = 0;
    while engine.phase(session).unwrap().is_active() {
        engine.tick();
        ticks += 1;
    }
    // On a GPU, a tick may find nothing to do.
    let on_cpu = engine.gpu_shards(model).is_empty();
    assert!(ticks <= 10 || !on_cpu, "the context was computed again");
    let second = engine.output(session).unwrap().tokens.clone();
    let whole: Vec<u32> = tokens.iter().chain(&first).chain(&[5, 6, 7]).copied().collect();
    assert_eq!(second, greedy(&mut engine, model, &whole, 9));
    // A new context that differs from the cached one keeps their common beginning.
    let mut other = whole[..20].to_vec();
    other.extend([9, 9, 9]);
    engine.set_context(session, other.clone()).unwrap();
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    let third = engine.output(session).unwrap().tokens.clone();
    assert_eq!(third, greedy(&mut engine, model, &other, 9));
}

pub fn cancel_stops_one_session_and_no_other(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
    let expected = greedy(&mut engine, model, &tokens, 30);
    let kept = told(&mut engine, model, &tokens);
    let dropped = told(&mut engine, model, &tokens[..7]);
    engine.generate(kept, &asks(30)).unwrap();
    engine.generate(dropped, &asks(1000)).unwrap();
    while engine.output(dropped).unwrap().tokens.len() < 3 {
        engine.tick();
    }
    assert!(matches!(engine.append(dropped, Prompt::Tokens(vec![1])), Err(Error::Busy)));
    engine.cancel(dropped).unwrap();
    assert_eq!(engine.wait(dropped).unwrap(), FinishReason::Cancelled);
    let said = engine.output(dropped).unwrap().tokens.len();
    engine.wait(kept).unwrap();
    assert_eq!(engine.output(kept).unwrap().tokens, expected);
    assert_eq!(engine.output(dropped).unwrap().tokens.len(), said);
    // The session can be continued.
    engine.generate(dropped, &asks(2)).unwrap();
    assert_eq!(engine.wait(dropped).unwrap(), FinishReason::MaxTokens);
}

pub fn stop_strings_end_the_text_before_them(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
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

pub fn end_of_generation_ends_unless_ignored(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
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

pub fn the_same_seed_gives_the_same_text_in_any_company(options: &EngineOptions) {
    let (mut engine, model, tokens) = tiny(options);
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

/// Many more sessions than rows in a wave, and than pages for all of them.
pub fn more_sessions_than_fit_get_their_turn(options: &EngineOptions, count: u32) {
    let mut engine = Engine::new(&EngineOptions { max_rows: Some(16), ..options.clone() }).unwrap();
    let load = LoadOptions { kv_tokens: Some(count as usize / 5 * PAGE), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    let expected: Vec<_> = (0..4).map(|n| greedy(&mut engine, model, &[n, 7, 9], 4)).collect();
    let sessions: Vec<_> = (0..count)
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
