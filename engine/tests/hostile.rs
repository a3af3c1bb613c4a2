//! Misuse of the engine: requests replaced half way, calls in any order, damaged files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should stop where it failed")]

mod calls;
mod files;
mod sharing;
mod support;

use crate::common::{golden, poll_by_reading, told};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use support::{TINY, TOKENS, alone, asks, check_pages, cramped, engine, finish, held_up, peak_memory};
use weft::components::{HeldBy, KvPage, Layers};
use weft::storage::{Bytes, MemorySource, Source, StorageError};
use weft::{
    Engine, Error, FinishReason, GenerateOptions, KeepLogits, LoadOptions, ModelSource, PAGE, Prompt,
    SamplerSettings, SessionEvent, SessionEventKind, SessionId, SessionOptions, TickOutcome,
};

// --- Requests replaced while their rows wait for a layer ------------------------------------------------------------

#[test]
fn rows_under_way_do_not_count_for_another_context() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    let other: Vec<u32> = TOKENS[..12].iter().map(|token| token / 2 + 3).collect();
    engine.set_context(session, other.clone()).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&other, 8));
}

#[test]
fn rows_under_way_do_not_count_for_a_shorter_context() {
    let (mut engine, _, session, gate) = held_up(20, &asks(4));
    engine.cancel(session).unwrap();
    engine.set_context(session, TOKENS[..5].to_vec()).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..5], 8));
}

#[test]
fn rows_under_way_do_not_choose_for_a_longer_context() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    engine.append(session, Prompt::Tokens(TOKENS[12..20].to_vec())).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..20], 8));
}

#[test]
fn rows_under_way_without_logits_are_not_sampled() {
    let (mut engine, _, session, gate) = held_up(12, &asks(0));
    engine.cancel(session).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..12], 8));
}

#[test]
fn rows_under_way_do_not_answer_a_later_question() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    engine.ask_logits(session, vec![0, 5, 11], KeepLogits::Row, 0).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.take_logits(session).unwrap().rows.len(), 3);
}

#[test]
fn a_model_can_go_while_its_wave_waits() {
    let (mut engine, model, session, gate) = held_up(12, &asks(4));
    engine.unload(model);
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
    assert_eq!(engine.tick(), TickOutcome::Idle);
    gate.open();
    let pages = engine.world_mut().query::<&KvPage>().iter(engine.world()).count();
    assert_eq!(pages, 0);
}

#[test]
fn a_session_can_go_while_its_rows_wait() {
    let (mut engine, model, session, gate) = held_up(24, &asks(4));
    engine.close(session);
    let next = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(next, &asks(6)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, next), FinishReason::MaxTokens);
    assert_eq!(engine.output(next).unwrap().tokens, alone(&TOKENS[..9], 6));
    engine.close(next);
    check_pages(&mut engine, model);
}

// --- Results are returned once and completely -----------------------------------------------------------------------

#[test]
fn logits_are_kept_once_though_the_context_was_given_up() {
    let (mut engine, model) = cramped(4, 8);
    let tokens: Vec<u32> = TOKENS.iter().cycle().take(3 * PAGE).copied().collect();
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let sessions: Vec<_> = (0..3)
        .map(|_| {
            let session = told(&mut engine, model, &tokens);
            engine.ask_logits(session, positions.clone(), KeepLogits::NextTokenLoss, 4).unwrap_err();
            engine.ask_logits(session, positions.clone(), KeepLogits::Row, 4).unwrap();
            session
        })
        .collect();
    for session in sessions {
        assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
        assert_eq!(engine.take_logits(session).unwrap().rows.len(), positions.len());
    }
}

#[test]
fn a_later_request_does_not_answer_an_old_question_again() {
    let (mut engine, model) = cramped(4, 64);
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.ask_logits(session, vec![3, 8], KeepLogits::Row, 0).unwrap();
    finish(&mut engine, session);
    engine.generate(session, &asks(3)).unwrap();
    finish(&mut engine, session);
    assert_eq!(engine.take_logits(session).unwrap().rows.len(), 2);
}

/// A stop string that begins with the whole answer holds all of it back. It has to be returned at the end.
fn held_back(end: impl FnOnce(&mut Engine, SessionId)) -> (String, String) {
    let (mut engine, model) = cramped(2, 64);
    let session = told(&mut engine, model, &TOKENS[..24]);
    engine.generate(session, &asks(8)).unwrap();
    finish(&mut engine, session);
    let text = engine.output(session).unwrap().text.clone();
    let session = engine
        .open_session(model, &SessionOptions { context: Some(31), ..SessionOptions::default() })
        .unwrap();
    engine.append(session, Prompt::Tokens(TOKENS[..24].to_vec())).unwrap();
    let stop = vec![format!("{text} and so on and on and on, for ever")];
    engine.generate(session, &GenerateOptions { stop, ..asks(1000) }).unwrap();
    end(&mut engine, session);
    assert_eq!(engine.output(session).unwrap().tokens.len(), 8);
    (engine.output(session).unwrap().text.clone(), text)
}

#[test]
fn a_full_context_gives_out_the_text_held_back() {
    let (found, expected) = held_back(|engine, session| {
        assert_eq!(finish(engine, session), FinishReason::ContextFull);
    });
    assert_eq!(found, expected);
}

#[test]
fn a_cancel_gives_out_the_text_held_back() {
    let (found, expected) = held_back(|engine, session| {
        while engine.output(session).unwrap().tokens.len() < 8 {
            engine.tick();
        }
        engine.cancel(session).unwrap();
    });
    assert_eq!(found, expected);
}

#[test]
fn every_request_ends_with_one_message() {
    use bevy_ecs::message::{MessageCursor, Messages};
    let (mut engine, model) = cramped(4, 64);
    let mut cursor = MessageCursor::<SessionEvent>::default();
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(session, &asks(100)).unwrap();
    let mut told = Vec::new();
    for turn in 0..6 {
        engine.tick();
        if turn == 3 {
            engine.cancel(session).unwrap();
        }
        told.extend(cursor.read(engine.world().resource::<Messages<SessionEvent>>()).map(|event| event.kind));
    }
    assert_eq!(told.iter().filter(|kind| matches!(kind, SessionEventKind::Token(_))).count(), 4);
    let ends: Vec<_> =
        told.iter().filter(|kind| matches!(kind, SessionEventKind::Finished(_))).copied().collect();
    assert_eq!(ends, [SessionEventKind::Finished(FinishReason::Cancelled)]);
}

// --- Excessive numbers ----------------------------------------------------------------------------------------------

#[test]
fn absurd_options_are_errors_or_harmless() {
    assert!(engine(1).load(ModelSource::Parts(vec![]), &LoadOptions::default()).is_err());
    for kv_tokens in [usize::MAX, usize::MAX / 2, 1 << 52] {
        let options = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
        let path = golden("tiny/tiny-llama.gguf");
        let before = peak_memory();
        assert!(matches!(engine(1).load(path.as_path(), &options), Err(Error::Load(_))), "{kv_tokens}");
        assert!(
            peak_memory() < before + (64 << 20),
            "{kv_tokens} tokens took memory before they were refused"
        );
    }
    let (mut engine, model) = cramped(0, usize::MAX);
    let session = told(&mut engine, model, &TOKENS[..9]);
    let sampler = SamplerSettings {
        temperature: 1e-30,
        top_k: usize::MAX,
        penalty_last_n: usize::MAX,
        repetition_penalty: 1e30,
        presence_penalty: f32::MAX,
        frequency_penalty: -f32::MAX,
        logprobs: Some(usize::MAX),
        logit_bias: vec![(1, f32::INFINITY), (2, f32::NEG_INFINITY)],
        ..SamplerSettings::default()
    };
    engine.generate(session, &GenerateOptions { sampler, prefill_chunk: usize::MAX, ..asks(5) }).unwrap();
    finish(&mut engine, session);
    let none = engine
        .open_session(model, &SessionOptions { context: Some(0), ..SessionOptions::default() })
        .unwrap();
    assert!(matches!(
        engine.append(none, Prompt::Tokens(vec![1])),
        Err(Error::ContextOverflow { tokens: 1, limit: 0 })
    ));
    assert!(matches!(engine.ask_logits(none, vec![], KeepLogits::NextTokenLoss, 0), Err(Error::EmptyPrompt)));
    assert!(matches!(engine.ask_logits(none, vec![0], KeepLogits::Row, 0), Err(Error::BadPosition { .. })));
}

// --- Models that fail -----------------------------------------------------------------------------------------------

/// A file whose last layer cannot be read.
struct Broken(MemorySource, u64);

impl Source for Broken {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn poll_read(
        &self,
        _: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        poll_by_reading(self, offset, buffer)
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let range = if range.start >= self.1 { u64::MAX..u64::MAX } else { range };
        self.0.read(range)
    }
}

#[test]
fn sessions_of_a_failed_load_are_told() {
    let file = MemorySource::new("tiny", TINY.clone());
    let whole: Vec<Arc<dyn Source>> = vec![Arc::new(file.clone())];
    let from = weft::gguf::Gguf::read(&whole).unwrap().tensor("blk.2.attn_norm.weight").unwrap().range.start;
    let mut engine = engine(64);
    let source = ModelSource::Parts(vec![Arc::new(Broken(file, from)) as Arc<dyn Source>]);
    let model = engine.load(source, &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(session, &asks(5)).unwrap();
    assert_eq!(finish(&mut engine, session), FinishReason::ModelFailed);
    assert!(matches!(engine.progress(model), Err(Error::Load(_))));
    assert!(matches!(engine.wait_loaded(model), Err(Error::Load(_))));
    assert!(matches!(engine.wait(session), Err(Error::Load(_))));
    // The same again, with a session that is opened after the failure.
    engine.append(session, Prompt::Tokens(vec![1])).unwrap();
    let late = told(&mut engine, model, &TOKENS[..3]);
    for session in [session, late] {
        engine.generate(session, &asks(5)).unwrap();
        assert_eq!(finish(&mut engine, session), FinishReason::ModelFailed);
    }
    assert_eq!(engine.tick(), TickOutcome::Idle);
    check_pages(&mut engine, model);
    engine.unload(model);
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
}

#[test]
fn a_layer_that_nobody_computes_stops_the_wave() {
    let (mut engine, model) = cramped(4, 64);
    let layer = engine.world().get::<Layers>(model.0).unwrap().entities()[1];
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(session, &asks(5)).unwrap();
    let held = engine.world_mut().entity_mut(layer).take::<HeldBy>().unwrap();
    (0..20).for_each(|_| _ = engine.tick());
    assert_eq!(engine.output(session).unwrap().tokens, [0u32; 0], "a layer was left out");
    engine.world_mut().entity_mut(layer).insert(held);
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..9], 5));
}
