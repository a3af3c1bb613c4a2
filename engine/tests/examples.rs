//! Every program of `examples/` does what it says, on the tiny models that it takes by default.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the examples are programs of their own; what they have beside `run` is for those"
)]

#[path = "../examples/adapters.rs"]
mod adapters;
#[path = "../examples/branches.rs"]
mod branches;
#[path = "../examples/custom_admission.rs"]
mod custom_admission;
#[path = "../examples/custom_backend.rs"]
mod custom_backend;
#[path = "../examples/custom_drafter.rs"]
mod custom_drafter;
#[path = "../examples/custom_router.rs"]
mod custom_router;
#[path = "../examples/custom_sampler.rs"]
mod custom_sampler;
#[path = "../examples/custom_source.rs"]
mod custom_source;
#[path = "../examples/embeddings.rs"]
mod embeddings;
#[path = "../examples/engine_thread.rs"]
mod engine_thread;
#[path = "../examples/first_answer.rs"]
mod first_answer;
#[path = "../examples/logits_processor.rs"]
mod logits_processor;
#[path = "../examples/many_sessions.rs"]
mod many_sessions;
#[path = "../examples/move_layer.rs"]
mod move_layer;
#[path = "../examples/own_world.rs"]
mod own_world;
#[path = "../examples/stream.rs"]
mod stream;

use crate::common::{golden, loaded};
use weft::{GenerateOptions, Message, SamplerSettings, SessionOptions};

/// What tiny-llama answers to questions, each in a session of its own, one after another.
fn answers(questions: &[&str], max_tokens: usize) -> Vec<String> {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let answer = |question: &&str| {
        let session = engine.open_session(model, &SessionOptions::default()).unwrap();
        engine.set_messages(session, &[Message::new("user", *question)]).unwrap();
        let options = GenerateOptions { max_tokens: Some(max_tokens), ..GenerateOptions::default() };
        engine.generate(session, &options).unwrap();
        engine.wait(session).unwrap();
        engine.output(session).unwrap().text.clone()
    };
    questions.iter().map(answer).collect()
}

#[test]
fn one_question_has_one_answer_however_it_is_asked() {
    let model = golden("tiny/tiny-llama.gguf");
    let wanted = answers(&["Name three fruits."], 32).remove(0);
    assert!(!wanted.is_empty());
    assert_eq!(first_answer::run(&model).unwrap(), wanted);
    assert_eq!(stream::run(&model).unwrap(), wanted);
    assert_eq!(own_world::run(&model).unwrap(), wanted);
    assert_eq!(custom_backend::run(&model).unwrap(), wanted);
    assert_eq!(move_layer::run(&model).unwrap(), wanted);
    assert_eq!(custom_source::run(&model).unwrap(), wanted);
}

#[test]
fn many_sessions_answer_as_each_does_alone() {
    let questions: Vec<String> =
        many_sessions::CITIES.iter().map(|city| format!("Which country is {city} in?")).collect();
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let said = many_sessions::run(&golden("tiny/tiny-llama.gguf")).unwrap();
    assert_eq!(said, answers(&questions, 16).join("\n"));
}

#[test]
fn branches_of_a_session_answer_as_each_does_alone() {
    let file = golden("tiny/tiny-llama.gguf");
    let (said, gone_on) = branches::run(&file).unwrap();
    let (mut engine, model) = loaded(&file);
    for (question, said) in branches::QUESTIONS.into_iter().zip(&said) {
        let private = SessionOptions { private: true, ..SessionOptions::default() };
        let session = engine.open_session(model, &private).unwrap();
        engine.set_messages(session, &branches::messages(question)).unwrap();
        engine
            .generate(session, &GenerateOptions { max_tokens: Some(24), ..GenerateOptions::default() })
            .unwrap();
        engine.wait(session).unwrap();
        assert_eq!(&engine.output(session).unwrap().text, said);
    }
    assert_eq!(gone_on, said[0]);
}

#[test]
fn a_drafter_of_one_s_own_changes_no_answer() {
    let ([plain, drafted], stats) = custom_drafter::run(&golden("tiny/tiny-llama.gguf")).unwrap();
    assert_eq!(plain, drafted);
    assert!(stats.drafted > 0 && stats.accepted > 0, "{stats:?}");
}

#[test]
fn threads_share_an_engine() {
    let wanted = answers(&["Name three fruits.", "Name three rivers."], 32);
    assert_eq!(engine_thread::run(&golden("tiny/tiny-llama.gguf")).unwrap(), wanted.join("\n"));
}

#[test]
fn sentences_are_ordered_by_how_close_they_are() {
    let table = embeddings::run(&golden("tiny/tiny-llama.gguf")).unwrap();
    let cosines: Vec<f32> =
        table.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(cosines.len(), embeddings::SENTENCES.len());
    assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines.iter().all(|cosine| cosine.abs() <= 1.0001));
}

#[test]
fn an_adapter_changes_one_session_and_not_the_other() {
    let answers = adapters::run(&golden("hf/llama.gguf"), &golden("lora/llama-all.gguf")).unwrap();
    let [plain, adapted] = [0, 1].map(|line| answers.lines().nth(line).unwrap().split_once(": ").unwrap().1);
    assert_ne!(plain, adapted);
    let (mut engine, model) = loaded(&golden("hf/llama.gguf"));
    let wanted = crate::common::greedy(&mut engine, model, &[81, 109, 62, 34, 76, 58], 16);
    assert_eq!(plain, format!("{wanted:?}"));
}

#[test]
fn a_sampler_of_one_s_own_never_repeats_itself() {
    let model = golden("tiny/tiny-llama.gguf");
    let [own, greedy] = custom_sampler::run(&model).unwrap();
    assert_eq!(greedy.text, answers(&["What is the capital of France?"], 32).remove(0));
    let repeats = |tokens: &[u32]| {
        tokens
            .windows(custom_sampler::WINDOW + 1)
            .any(|window| window[..window.len() - 1].contains(&window[window.len() - 1]))
    };
    assert!(repeats(&greedy.tokens) && !repeats(&own.tokens), "{own:?}");
    // Up to the first repetition the most likely token is the same.
    assert_eq!(own.tokens[0], greedy.tokens[0]);
}

#[test]
fn a_processor_forbids_what_a_bias_forbids() {
    let model = golden("tiny/tiny-llama.gguf");
    let letter = char::from(logits_processor::LETTER);
    let answer = logits_processor::run(&model).unwrap();
    assert!(!answer.is_empty() && !answer.to_lowercase().contains(letter), "{answer}");
    let (mut engine, model) = loaded(&model);
    let forbidden = logits_processor::with_letter(engine.tokenizer(model).unwrap());
    let logit_bias = forbidden.iter().map(|token| (*token, f32::NEG_INFINITY)).collect();
    let sampler = SamplerSettings { logit_bias, ..SamplerSettings::default() };
    let session = engine.open_session(model, &SessionOptions::default()).unwrap();
    engine.set_messages(session, &[Message::new("user", "What is the capital of France?")]).unwrap();
    let options = GenerateOptions { max_tokens: Some(32), sampler, ..GenerateOptions::default() };
    engine.generate(session, &options).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().text, answer);
}

#[test]
fn the_most_urgent_are_answered_first_and_as_ever() {
    let said = custom_admission::run(&golden("tiny/tiny-llama.gguf")).unwrap();
    let questions: Vec<_> = custom_admission::QUESTIONS.into_iter().rev().collect();
    let who: Vec<_> = questions.iter().map(|(who, _)| *who).collect();
    assert_eq!(said.iter().map(|(who, _)| *who).collect::<Vec<_>>(), who);
    let wanted = answers(&questions.iter().map(|(_, question)| *question).collect::<Vec<_>>(), 16);
    assert_eq!(said.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_router_shares_questions_between_models() {
    let model = golden("tiny/tiny-llama.gguf");
    let said = custom_router::run(&[model.clone(), model]).unwrap();
    assert_eq!(said.iter().map(|(model, _)| *model).collect::<Vec<_>>(), [0, 1, 0, 1]);
    let answers = answers(&custom_router::QUESTIONS, 16);
    assert_eq!(said.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>(), answers);
}
