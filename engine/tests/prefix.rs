//! The prefix tree: contexts with a common beginning share its pages and compute it once, forks cost a page, windows
//! keep only what is seen, and every page is accounted for whatever sessions do.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

pub(crate) mod accounts;
mod folder;

use crate::common::requests::{asks, tiny};
use crate::common::{golden, greedy, synthetic_of, told};
use std::time::Duration;
use weft::components::{ContextCursor, KvPage, KvPools, PrivateContext};
use weft::stages::load::rewind_sessions;
use weft::stages::place::Backends;
use weft::synth::SynthShape;
use weft::{
    Engine, EngineOptions, GenerateOptions, KeepLogits, KvFormat, LoadOptions, ModelId, PAGE, Phase, Prompt,
    SamplerSettings, SessionId, SessionOptions,
};

fn used_pages(engine: &Engine, model: ModelId) -> usize {
    let pools = engine.world().get::<KvPools>(model.0).unwrap();
    pools.capacity() - pools.free()
}

pub(crate) fn tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729 + at * at * 31) % 300) as u32).collect()
}

/// A model of two layers with a long context.
fn long(options: &EngineOptions, kv_tokens: usize) -> (Engine, ModelId) {
    let shape = SynthShape { context: 8192, ..small() };
    let mut engine = Engine::new(options).unwrap();
    let load = LoadOptions { kv_tokens: Some(kv_tokens), kv_format: KvFormat::F16, ..LoadOptions::default() };
    let model = engine.load(synthetic_of("llama", &shape, "Q8_0"), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

/// A model of two layers.
pub(crate) fn small() -> SynthShape {
    SynthShape {
        layers: 2,
        embedding: 64,
        heads: 4,
        kv_heads: 2,
        feed_forward: 128,
        vocabulary: 320,
        ..SynthShape::default()
    }
}

/// What the model says after some tokens, in a session that shares what it can.
fn shared(engine: &mut Engine, model: ModelId, prompt: &[u32], count: usize) -> Vec<u32> {
    let session = told(engine, model, prompt);
    engine.generate(session, &asks(count)).unwrap();
    engine.wait(session).unwrap();
    let answer = engine.output(session).unwrap().tokens.clone();
    engine.close(session);
    answer
}

/// The logits at the end of a context and the answer, of a session that shares nothing.
fn alone(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (Vec<u32>, Vec<f32>) {
    let private = SessionOptions { private: true, ..SessionOptions::default() };
    let session = engine.open_session(model, &private).unwrap();
    engine.append(session, Prompt::Tokens(prompt.to_vec())).unwrap();
    engine.generate(session, options).unwrap();
    engine.wait(session).unwrap();
    let answer = engine.output(session).unwrap().tokens.clone();
    let logits = last_logits(engine, session);
    engine.close(session);
    (answer, logits)
}

/// The logits at the last position of a session's context.
fn last_logits(engine: &mut Engine, session: SessionId) -> Vec<f32> {
    let last = engine.history(session).unwrap().len() - 1;
    engine.ask_logits(session, vec![last], KeepLogits::Row, 0).unwrap();
    engine.wait(session).unwrap();
    engine.take_logits(session).unwrap().rows.remove(0)
}

#[test]
fn sessions_that_arrive_together_compute_a_common_prefix_once() {
    const PREFIX: usize = 2000;
    const SESSIONS: usize = 64;
    let (mut engine, model) = long(&EngineOptions::default(), 16_384);
    let prefix = tokens(PREFIX, 1);
    let prompts: Vec<Vec<u32>> =
        (0..SESSIONS).map(|n| [&prefix[..], &tokens(10 + n, 100 + n)].concat()).collect();
    let drawn = |n: usize| {
        let sampler = SamplerSettings { temperature: 0.8, seed: n as u64, ..SamplerSettings::default() };
        GenerateOptions { sampler, ..asks(6) }
    };
    let alone: Vec<_> =
        prompts.iter().enumerate().map(|(n, prompt)| alone(&mut engine, model, prompt, &drawn(n))).collect();
    let before = engine.prefix_stats(model).unwrap();
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    for (n, session) in sessions.iter().enumerate() {
        engine.generate(*session, &drawn(n)).unwrap();
    }
    for session in &sessions {
        engine.wait(*session).unwrap();
    }
    let stats = engine.prefix_stats(model).unwrap();
    let tails: usize = prompts.iter().map(|prompt| prompt.len() - PREFIX).sum();
    assert_eq!((stats.prefilled_tokens - before.prefilled_tokens) as usize, PREFIX + tails);
    assert_eq!((stats.reused_tokens - before.reused_tokens) as usize, (SESSIONS - 1) * PREFIX);
    for (session, (answer, logits)) in sessions.iter().zip(&alone) {
        assert_eq!(&engine.output(*session).unwrap().tokens, answer);
        assert_eq!(&last_logits(&mut engine, *session), logits);
    }
}

#[test]
fn a_fork_costs_one_page() {
    let (mut engine, model) = long(&EngineOptions::default(), 8192);
    let prompt = tokens(2000, 1);
    let first = told(&mut engine, model, &prompt);
    engine.generate(first, &asks(5)).unwrap();
    engine.wait(first).unwrap();
    let whole = engine.history(first).unwrap().to_vec();
    let wanted = greedy(&mut engine, model, &whole, 8);
    engine.clear_prefix_cache(model).unwrap();
    let (before, stats) = (used_pages(&engine, model), engine.prefix_stats(model).unwrap());
    let fork = engine.fork(first).unwrap();
    assert_eq!(engine.history(fork).unwrap(), whole);
    assert_eq!(used_pages(&engine, model), before);
    for session in [fork, first] {
        engine.generate(session, &asks(8)).unwrap();
        engine.wait(session).unwrap();
        assert_eq!(engine.output(session).unwrap().tokens, wanted);
        assert_eq!(used_pages(&engine, model), before + 1);
    }
    // All but the last token, which is computed for its logits, were there.
    let prefilled = engine.prefix_stats(model).unwrap().prefilled_tokens - stats.prefilled_tokens;
    assert!(prefilled <= 2, "{prefilled} tokens were computed again");
    // A fork outlives what it was forked from.
    engine.close(first);
    engine.generate(fork, &asks(3)).unwrap();
    engine.wait(fork).unwrap();
    let more = engine.output(fork).unwrap().tokens.clone();
    let whole = [&whole[..], &wanted].concat();
    assert_eq!(more, greedy(&mut engine, model, &whole, 3));
}

#[test]
fn a_fork_may_be_taken_in_the_middle_of_an_answer() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let wanted = greedy(&mut engine, model, &prompt, 60);
    let first = told(&mut engine, model, &prompt);
    engine.generate(first, &asks(60)).unwrap();
    let mut forks = Vec::new();
    while engine.phase(first).unwrap().is_active() {
        engine.tick();
        let said = engine.output(first).unwrap().tokens.len();
        if said % 7 == 3 && said < 55 {
            let fork = engine.fork(first).unwrap();
            engine.generate(fork, &asks(60 - said)).unwrap();
            forks.push((fork, said));
        }
    }
    assert_eq!(engine.output(first).unwrap().tokens, wanted);
    for (fork, said) in forks {
        engine.wait(fork).unwrap();
        assert_eq!(engine.output(fork).unwrap().tokens, wanted[said..]);
    }
}

#[test]
fn ended_contexts_stay_cached_within_their_budget() {
    for (budget, hit) in [(None, true), (Some(0), false)] {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let load = LoadOptions { prefix_cache: budget, ..LoadOptions::default() };
        let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
        engine.wait_loaded(model).unwrap();
        let prompt = tokens(100, 3);
        let wanted = greedy(&mut engine, model, &prompt, 5);
        assert_eq!(shared(&mut engine, model, &prompt, 5), wanted);
        assert_eq!(used_pages(&engine, model) > 0, hit);
        let before = engine.prefix_stats(model).unwrap();
        assert_eq!(shared(&mut engine, model, &prompt, 5), wanted);
        let stats = engine.prefix_stats(model).unwrap();
        assert_eq!(stats.hits - before.hits, u64::from(hit));
        assert_eq!(stats.reused_tokens > before.reused_tokens, hit);
    }
}

#[test]
fn private_sessions_share_nothing() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let prompt = prompt.repeat(5);
    let wanted = shared(&mut engine, model, &prompt, 3);
    let before = engine.prefix_stats(model).unwrap().reused_tokens;
    assert_eq!(greedy(&mut engine, model, &prompt, 3), wanted);
    assert_eq!(engine.prefix_stats(model).unwrap().reused_tokens, before);
}

#[test]
fn a_paused_session_takes_no_part_and_loses_nothing() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let wanted = greedy(&mut engine, model, &prompt, 20);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(20)).unwrap();
    while engine.output(session).unwrap().tokens.len() < 5 {
        engine.tick();
    }
    engine.pause(session).unwrap();
    let said = engine.output(session).unwrap().tokens.len();
    for _ in 0..10 {
        engine.tick();
    }
    assert_eq!(engine.phase(session).unwrap(), Phase::Paused);
    assert_eq!(engine.output(session).unwrap().tokens.len(), said);
    engine.resume(session).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
}

/// A model with a window in all layers but every sixth.
fn windowed(kv_tokens: usize) -> (Engine, ModelId) {
    let shape = SynthShape { layers: 6, context: 40_000, window: Some(512), ..small() };
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let load = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
    let model = engine.load(synthetic_of("gemma3", &shape, "Q8_0"), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn pages_by_class(engine: &mut Engine) -> Vec<usize> {
    let world = engine.world_mut();
    let mut counts = Vec::new();
    for page in world.query::<&KvPage>().iter(world) {
        counts.resize(counts.len().max(page.class + 1), 0);
        counts[page.class] += 1;
    }
    counts
}

#[test]
fn windowed_layers_keep_their_window() {
    let (mut engine, model) = windowed(8192);
    let classes = engine.config(model).unwrap().kv_classes.clone();
    assert_eq!(classes.len(), 2);
    let local = classes.iter().position(|class| class.window.is_some()).unwrap();
    let window = classes[local].window.unwrap();
    let prompt = tokens(4000, 1);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(40)).unwrap();
    engine.wait(session).unwrap();
    let pages = pages_by_class(&mut engine);
    assert_eq!(pages[1 - local], (4000 + 39_usize).div_ceil(PAGE));
    assert!(pages[local] <= window.div_ceil(PAGE) + 5, "{pages:?} pages, a window of {window}");
    // A turn goes on in the cached window; a cut further back computes the context again.
    let first = engine.output(session).unwrap().tokens.clone();
    let before = engine.prefix_stats(model).unwrap().prefilled_tokens;
    engine.append(session, Prompt::Tokens(tokens(5, 9))).unwrap();
    engine.generate(session, &asks(5)).unwrap();
    engine.wait(session).unwrap();
    let after = engine.prefix_stats(model).unwrap().prefilled_tokens;
    assert!(after - before < 10, "{} tokens computed", after - before);
    let second = engine.output(session).unwrap().tokens.clone();
    let whole = [&prompt[..], &first, &tokens(5, 9)].concat();
    for (context, wanted) in [(whole, &second[..]), (prompt, &first[..5])] {
        assert_eq!(greedy(&mut engine, model, &context, 5), wanted);
        assert_eq!(shared(&mut engine, model, &context, 5), wanted);
    }
}

#[test]
fn a_prompt_that_is_edited_after_it_was_cancelled_leaves_the_cached_one_alone() {
    let (mut engine, model) = long(&EngineOptions::default(), 8192);
    let original = tokens(400, 1);
    let edited = [&original[..200], &tokens(200, 2)].concat();
    for sharer in [false, true] {
        engine.clear_prefix_cache(model).unwrap();
        let session = told(&mut engine, model, &original);
        let options = GenerateOptions { prefill_chunk: 128, ..asks(4) };
        engine.generate(session, &options).unwrap();
        let cursor = |engine: &Engine| *engine.world().get::<ContextCursor>(session.0).unwrap();
        // The first chunk is there, the second is in flight.
        while cursor(&engine).computed < 128 || cursor(&engine).scheduled < 256 {
            engine.tick_for(Duration::ZERO);
        }
        assert_eq!((cursor(&engine).computed, cursor(&engine).scheduled), (128, 256));
        let other = sharer.then(|| told(&mut engine, model, &original));
        if let Some(other) = other {
            engine.generate(other, &asks(4)).unwrap();
            engine.tick_for(Duration::ZERO);
        }
        engine.cancel(session).unwrap();
        engine.set_context(session, edited.clone()).unwrap();
        engine.generate(session, &asks(4)).unwrap();
        engine.wait(session).unwrap();
        let said = engine.output(session).unwrap().tokens.clone();
        assert_eq!(said, alone(&mut engine, model, &edited, &asks(4)).0);
        let wanted = alone(&mut engine, model, &original, &asks(4)).0;
        if let Some(other) = other {
            engine.wait(other).unwrap();
            assert_eq!(engine.output(other).unwrap().tokens, wanted);
            engine.close(other);
        }
        assert_eq!(shared(&mut engine, model, &original, 4), wanted);
        engine.close(session);
    }
}

/// Rows that are abandoned take with them what was copied for them, and what others took over from them.
#[test]
fn a_wave_that_is_abandoned_takes_a_copied_page_from_its_session_and_from_one_that_is_attached() {
    let (mut engine, model) = long(&EngineOptions::default(), 8192);
    let first = tokens(300, 1);
    // They leave the first prompt within its second page, and each other four tokens after the fifth.
    let common = [&first[..PAGE + 20], &tokens(200, 2)].concat();
    let prompts = [common.clone(), [&common[..5 * PAGE + 4], &tokens(50, 3)].concat()];
    let wanted: Vec<_> = prompts.iter().map(|prompt| alone(&mut engine, model, prompt, &asks(6))).collect();
    let said = shared(&mut engine, model, &first, 4);
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    let cursor = |engine: &Engine, n: usize| *engine.world().get::<ContextCursor>(sessions[n].0).unwrap();
    for session in &sessions {
        engine.generate(*session, &asks(6)).unwrap();
    }
    let before = engine.prefix_stats(model).unwrap();
    engine.tick_for(Duration::ZERO);
    let reused = engine.prefix_stats(model).unwrap().reused_tokens - before.reused_tokens;
    // The first has copied 20 tokens; the second has the whole pages of the first, in the same wave.
    assert_eq!(reused as usize, (PAGE + 20) + 5 * PAGE);
    assert_eq!((cursor(&engine, 0).computed, cursor(&engine, 0).scheduled), (PAGE, common.len()));
    assert_eq!((cursor(&engine, 1).computed, cursor(&engine, 1).scheduled), (5 * PAGE, prompts[1].len()));
    let world = engine.world_mut();
    let backends = Backends::of(world);
    rewind_sessions(world, &backends, model.0, usize::MAX);
    accounts::check(&mut engine, model);
    for n in 0..2 {
        assert_eq!((cursor(&engine, n).computed, cursor(&engine, n).scheduled), (PAGE, PAGE), "{n}");
    }
    for (session, (answer, logits)) in sessions.iter().zip(&wanted) {
        engine.wait(*session).unwrap();
        assert_eq!(&engine.output(*session).unwrap().tokens, answer);
        assert_eq!(&last_logits(&mut engine, *session), logits);
    }
    assert_eq!(shared(&mut engine, model, &first, 4), said, "what they copied from is as it was");
    accounts::check(&mut engine, model);
}

#[test]
fn what_follows_a_private_context_is_not_cached() {
    let (mut engine, model) = long(&EngineOptions::default(), 8192);
    let private = SessionOptions { private: true, ..SessionOptions::default() };
    let session = engine.open_session(model, &private).unwrap();
    let prompt = tokens(300, 1);
    engine.append(session, Prompt::Tokens(prompt.clone())).unwrap();
    engine.generate(session, &asks(4)).unwrap();
    engine.wait(session).unwrap();
    // It is cut, so that a new run follows, and is private no more.
    engine.set_context(session, prompt[..5 * PAGE].to_vec()).unwrap();
    engine.world_mut().entity_mut(session.0).remove::<PrivateContext>();
    engine.append(session, Prompt::Tokens(tokens(300, 2))).unwrap();
    engine.generate(session, &asks(4)).unwrap();
    engine.wait(session).unwrap();
    engine.close(session);
    assert_eq!(used_pages(&engine, model), 0);
    accounts::check(&mut engine, model);
}
