//! The engine on a thread of its own: answers from many threads, waking and sleeping, cancelling, panics, and its end.

use crate::common::requests::asks;
use crate::common::{golden, golden_json, ids, loaded, told};
use bevy_ecs::prelude::*;
use futures_core::Stream;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use weft::{
    Answer, EmbedOptions, EngineHandle, EngineOptions, Error, FinishReason, LoadOptions, ModelId, Phase,
    Prompt, SessionId, SessionOptions, TickSet,
};

/// tiny-llama on a thread, and its golden prompt.
fn started() -> (EngineHandle, ModelId, Vec<u32>) {
    let engine = EngineHandle::new(&EngineOptions::default()).unwrap();
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    (engine, model, ids(&golden_json("tiny/tiny-llama.json")["tokens"]))
}

fn session(engine: &EngineHandle, model: ModelId, prompt: &[u32]) -> SessionId {
    let session = engine.open_session(model, &SessionOptions::default()).unwrap();
    engine.append(session, Prompt::Tokens(prompt.to_vec())).unwrap();
    session
}

fn ask(engine: &EngineHandle, model: ModelId, prompt: &[u32], tokens: usize) -> Answer {
    engine.generate(session(engine, model, prompt), &asks(tokens)).unwrap()
}

/// What tiny-llama says alone after each prompt.
fn alone(prompts: &[Vec<u32>], tokens: usize) -> Vec<String> {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let say = |prompt: &Vec<u32>| {
        let session = told(&mut engine, model, prompt);
        engine.generate(session, &asks(tokens)).unwrap();
        engine.wait(session).unwrap();
        engine.output(session).unwrap().text.clone()
    };
    prompts.iter().map(say).collect()
}

/// An executor for one future, which parks the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Counts the ticks of an engine from here on; each takes so long at least.
fn count_ticks(engine: &EngineHandle, at_least: Duration) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let system = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(at_least);
    };
    engine.call(move |engine| _ = engine.add_systems(TickSet::Load, system)).unwrap();
    count
}

#[test]
fn many_threads_stream_at_once_and_each_gets_the_text_it_gets_alone() {
    let (engine, model, tokens) = started();
    let prompts: Vec<Vec<u32>> = (1..=12).map(|n| tokens[..2 * n].to_vec()).collect();
    let wanted = alone(&prompts, 40);
    let threads: Vec<_> = prompts
        .into_iter()
        .enumerate()
        .map(|(n, prompt)| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                let mut answer = ask(&engine, model, &prompt, 40);
                match n % 3 {
                    0 => answer.text().unwrap(),
                    1 => block_on(async {
                        let mut text = String::new();
                        while let Some(piece) =
                            poll_fn(|context| Pin::new(&mut answer).poll_next(context)).await
                        {
                            text.push_str(&piece.unwrap());
                        }
                        assert_eq!(answer.finish_reason(), Some(FinishReason::MaxTokens));
                        text
                    }),
                    _ => {
                        let (sender, pieces) = std::sync::mpsc::channel();
                        let thread = answer.on_piece(move |piece| {
                            sender.send(piece.to_owned()).unwrap();
                            ControlFlow::Continue(())
                        });
                        assert_eq!(thread.unwrap().join().unwrap().unwrap(), FinishReason::MaxTokens);
                        pieces.into_iter().collect()
                    }
                }
            })
        })
        .collect();
    let said: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(said, wanted);
}

#[test]
fn an_engine_on_a_gpu_streams_the_same_way() {
    let engine = EngineHandle::new(&crate::common::gpu::on_gpu(false)).unwrap();
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    let alone = engine.call(move |engine| {
        let session = told(engine, model, &[1, 2, 3]);
        engine.generate(session, &asks(10))?;
        engine.wait(session)?;
        engine.output(session).map(|output| output.text.clone())
    });
    let answers = [(); 2].map(|()| ask(&engine, model, &[1, 2, 3], 10));
    let alone = alone.unwrap().unwrap();
    assert_eq!(answers.map(|answer| answer.text().unwrap()), [alone.clone(), alone]);
}

#[test]
fn an_idle_engine_runs_no_ticks_and_wakes_for_a_command() {
    let (engine, model, tokens) = started();
    engine.wait_loaded(model).unwrap();
    let ticks = count_ticks(&engine, Duration::ZERO);
    let text = ask(&engine, model, &tokens, 8).text().unwrap();
    assert!(ticks.load(Ordering::SeqCst) >= 8);
    // Some ticks find the end of the answer. On a busy machine they may be late; an engine that polls never stops.
    let rests = |_| {
        let before = ticks.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        ticks.load(Ordering::SeqCst) == before
    };
    assert!((0..20).any(rests), "an idle engine sleeps");
    assert_eq!(ask(&engine, model, &tokens, 8).text().unwrap(), text);
}

#[test]
fn dropping_an_answer_cancels_its_request_and_no_later_one() {
    let (engine, model, tokens) = started();
    count_ticks(&engine, Duration::from_millis(1));
    let asked = session(&engine, model, &tokens);
    let mut answer = engine.generate(asked, &asks(10_000)).unwrap();
    assert!(answer.next().unwrap().is_ok());
    assert!(matches!(engine.generate(asked, &asks(1)), Err(Error::Busy)));
    drop(answer);
    let phase = engine.call(move |engine| engine.phase(asked)).unwrap().unwrap();
    assert_eq!(phase, Phase::Finished(FinishReason::Cancelled));
    // An answer that has ended and is dropped late.
    let ended = engine.generate(asked, &asks(2)).unwrap();
    let finished =
        engine.when(move |engine| engine.phase(asked).is_ok_and(|phase| !phase.is_active()).then_some(()));
    finished.wait().unwrap();
    let later = engine.generate(asked, &asks(4)).unwrap();
    drop(ended);
    later.text().unwrap();
    let said = engine.call(move |engine| engine.output(asked).map(|output| output.tokens.len()));
    assert_eq!(said.unwrap().unwrap(), 4);
    // A callback that has heard enough.
    let answer = engine.generate(asked, &asks(10_000)).unwrap();
    let thread = answer.on_piece(|_| ControlFlow::Break(())).unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), FinishReason::Cancelled);
    let phase = engine.call(move |engine| engine.phase(asked)).unwrap().unwrap();
    assert_eq!(phase, Phase::Finished(FinishReason::Cancelled));
}

#[test]
fn a_slow_reader_holds_up_nobody_and_loses_nothing() {
    let (engine, model, tokens) = started();
    let wanted = alone(std::slice::from_ref(&tokens), 60);
    let mut slow = ask(&engine, model, &tokens, 60);
    let slow_session = slow.session();
    let first = slow.next().unwrap().unwrap();
    engine
        .when(move |engine| (!engine.phase(slow_session).unwrap().is_active()).then_some(()))
        .wait()
        .unwrap();
    // A call after the tick in which the request ended: by then the end has been published.
    engine.call(|_| ()).unwrap();
    let rest = slow.next().unwrap().unwrap();
    assert_eq!(first + &rest, wanted[0], "what came in the meantime is one piece");
    assert!(slow.next().is_none());
    assert_eq!(slow.finish_reason(), Some(FinishReason::MaxTokens));
}

#[test]
fn a_command_that_panics_is_an_error_of_that_call() {
    let (engine, model, tokens) = started();
    let wanted = ask(&engine, model, &tokens, 8).text().unwrap();
    let answer = ask(&engine, model, &tokens, 8);
    let error = engine
        .call(|_| {
            if true {
                panic!("number {}", 7)
            }
        })
        .unwrap_err();
    assert!(matches!(&error, Error::Panicked { message } if message == "number 7"), "{error}");
    let error = engine.when(|_| -> Option<()> { panic!("again") }).wait().unwrap_err();
    assert!(matches!(&error, Error::Panicked { message } if message == "again"), "{error}");
    assert_eq!(answer.text().unwrap(), wanted, "answers go on");
}

#[test]
fn a_system_that_panics_ends_the_engine_with_an_error_for_everyone() {
    let (engine, model, tokens) = started();
    count_ticks(&engine, Duration::from_millis(1));
    let mut answer = ask(&engine, model, &tokens, 10_000);
    assert!(answer.next().unwrap().is_ok());
    let never = engine.when(|_| None::<()>);
    engine.call(|engine| _ = engine.add_systems(TickSet::Admit, || panic!("a broken system"))).unwrap();
    let error = answer.find_map(Result::err).unwrap();
    assert!(error.to_string().contains("a broken system"), "{error}");
    assert!(matches!(error, Error::EngineStopped { .. }), "{error}");
    assert!(matches!(never.wait(), Err(Error::EngineStopped { .. })));
    assert!(matches!(engine.call(|_| ()), Err(Error::EngineStopped { .. })));
}

#[test]
fn the_engine_ends_with_its_last_handle_or_answer() {
    #[derive(Resource)]
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (engine, model, tokens) = started();
    let closed = Arc::new(AtomicBool::new(false));
    let resource = OnDrop(Arc::clone(&closed));
    engine.call(move |engine| engine.world_mut().insert_resource(resource)).unwrap();
    let answer = ask(&engine, model, &tokens, 20);
    let wanted = alone(&[tokens], 20).remove(0);
    drop(engine);
    assert!(!closed.load(Ordering::SeqCst));
    assert_eq!(answer.text().unwrap(), wanted, "an answer keeps its engine");
    assert!(closed.load(Ordering::SeqCst));
    // The last handle may be dropped on the engine's own thread.
    let (engine, ..) = started();
    let own = engine.clone();
    let reply = engine.submit(move |_| drop(own));
    drop(engine);
    // The command runs although its handle is gone: commands are in order.
    reply.wait().unwrap();
}

#[test]
fn calls_that_would_wait_for_themselves_are_refused() {
    let (engine, model, tokens) = started();
    let own = engine.clone();
    assert!(matches!(engine.call(move |_| own.call(|_| ())).unwrap(), Err(Error::OwnThread)));
    let mut answer = ask(&engine, model, &tokens, 4);
    let refused = engine.call(move |_| answer.next().unwrap()).unwrap();
    assert!(matches!(refused, Err(Error::OwnThread)));
}

#[test]
fn a_closed_session_ends_its_answer_and_an_answer_has_one_reader() {
    let (engine, model, tokens) = started();
    count_ticks(&engine, Duration::from_millis(1));
    let mut answer = ask(&engine, model, &tokens, 10_000);
    let asked = answer.session();
    let second =
        engine.call(move |engine| weft::world::subscribe(engine.world_mut(), asked).map(|_| ())).unwrap();
    assert!(matches!(second, Err(Error::Subscribed)));
    engine.close(asked).unwrap();
    assert!(matches!(answer.find_map(Result::err), Some(Error::NoSession)));
    assert!(matches!(engine.generate(asked, &asks(1)), Err(Error::NoSession)));
}

#[test]
fn embeddings_come_beside_answers() {
    let (engine, model, tokens) = started();
    let texts: Vec<Prompt> = (1..=70).map(|n| Prompt::Tokens(tokens[..1 + n % 20].to_vec())).collect();
    let (mut plain, same) = loaded(&golden("tiny/tiny-llama.gguf"));
    let wanted = plain.embed(same, &texts, &EmbedOptions::default()).unwrap();
    let answer = ask(&engine, model, &tokens, 40);
    assert_eq!(engine.embed(model, &texts, &EmbedOptions::default()).unwrap(), wanted);
    assert_eq!(answer.text().unwrap(), alone(&[tokens], 40)[0]);
    let empty = [Prompt::Tokens(Vec::new())];
    assert!(matches!(engine.embed(model, &empty, &EmbedOptions::default()), Err(Error::EmptyPrompt)));
    let open = engine.call(|engine| engine.world_mut().query::<&Phase>().iter(engine.world()).count());
    assert_eq!(open.unwrap(), 1, "sessions of texts are closed");
}

#[test]
fn a_wait_for_a_load_asks_for_what_was_evicted() {
    let (engine, model, _) = started();
    engine.wait_loaded(model).unwrap();
    let evict = move |engine: &mut weft::Engine| {
        let layer = engine.world().get::<weft::components::Layers>(model.0).unwrap().entities()[1];
        weft::stages::load::evict_layer(engine.world_mut(), layer)
    };
    assert!(engine.call(evict).unwrap());
    engine.wait_loaded(model).unwrap();
    assert!(engine.progress(model).unwrap().is_complete());
}

#[test]
fn a_condition_that_goes_on_may_ask_for_work() {
    let (engine, model, tokens) = started();
    engine.wait_loaded(model).unwrap();
    let (go, asked) = (session(&engine, model, &tokens), session(&engine, model, &tokens));
    let mut started = false;
    let ended = engine.when(move |engine| {
        // Once another command has said so; nothing wakes the engine after that.
        if !started && engine.history(go).is_err() {
            started = true;
            engine.generate(asked, &asks(4)).unwrap();
        }
        matches!(engine.phase(asked), Ok(Phase::Finished(_))).then_some(())
    });
    engine.call(move |engine| engine.close(go)).unwrap();
    let (done, waits) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || done.send(block_on(ended)).unwrap());
    waits.recv_timeout(Duration::from_secs(60)).expect("the engine sleeps, and has work").unwrap();
    waiter.join().unwrap();
}

#[test]
fn what_a_condition_asks_for_is_done_without_another_command() {
    let (engine, model, tokens) = started();
    let (first, second) = (session(&engine, model, &tokens), session(&engine, model, &tokens));
    let other = ask(&engine, model, &tokens, 6);
    engine.call(move |engine| engine.generate(first, &asks(4)).unwrap()).unwrap();
    let (sender, answer) = std::sync::mpsc::channel();
    let mut idle = 0;
    let _when = engine.when(move |engine| {
        // After the tick that found nothing more to do, so that nothing else keeps the engine awake.
        let others = [first, other.session()];
        let active = others.iter().any(|session| engine.phase(*session).unwrap().is_active());
        idle += usize::from(!active);
        if idle < 2 {
            return None;
        }
        engine.generate(second, &asks(4)).unwrap();
        sender.send(weft::world::subscribe(engine.world_mut(), second).unwrap()).unwrap();
        Some(())
    });
    let (done, waits) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut pieces = answer.recv().unwrap();
        let mut text = String::new();
        while let Some(piece) = block_on(poll_fn(|context| Pin::new(&mut pieces).poll_next(context))) {
            text.push_str(&piece.unwrap());
        }
        done.send(text).unwrap();
    });
    let text = waits.recv_timeout(Duration::from_secs(60)).expect("the engine sleeps, and has work");
    reader.join().unwrap();
    assert_eq!(text, alone(&[tokens], 4)[0]);
}
