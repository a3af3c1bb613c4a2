//! An admission order of one's own: a system that says which sessions join a wave first. Here by urgency; a server might go by
//! who has waited longest, or has paid. It decides who waits, and never what is answered.
//!
//! `cargo run --release -p weft --example custom_admission -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::cmp::Reverse;
use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::Sessions;
use weft::{
    AdmissionOrder, Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions,
    TickOutcome, TickSet, systems,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Who asks, the least urgent first, and what.
pub const QUESTIONS: [(&str, &str); 3] = [
    ("background", "Which country is Lima in?"),
    ("normal", "Which country is Rome in?"),
    ("urgent", "Which country is Oslo in?"),
];

/// How urgent a session is; without this component 0. A component of the session.
#[derive(Component)]
struct Urgency(usize);

/// Writes the order in which sessions are admitted: the most urgent first, and the oldest first of those that are as urgent.
fn order(mut models: Query<'_, '_, (&Sessions, &mut AdmissionOrder)>, urgencies: Query<'_, '_, &Urgency>) {
    for (sessions, mut order) in &mut models {
        order.0.clear();
        order.0.extend(sessions.entities());
        order.0.sort_by_key(|session| Reverse(urgencies.get(*session).map_or(0, |urgency| urgency.0)));
    }
}

/// Asks the model in a file three questions at the same time. Returns who was answered, and what, in the order in which the
/// answers were complete.
pub fn run(model: &Path) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    // Waves of two rows: there is never room for all. By default a wave has room for hundreds of sessions.
    let mut engine = Engine::new(&EngineOptions { max_rows: Some(2), ..EngineOptions::default() })?;
    engine.add_systems(TickSet::Admit, order.before(systems::admit));
    let model = engine.load(model, &LoadOptions::default())?;
    // A model without this component admits its sessions in turn.
    engine.world_mut().entity_mut(model.0).insert(AdmissionOrder::default());
    let mut waiting = Vec::new();
    for (urgency, (who, question)) in QUESTIONS.into_iter().enumerate() {
        let session = engine.open_session(model, &SessionOptions::default())?;
        engine.world_mut().entity_mut(session.0).insert(Urgency(urgency));
        engine.set_messages(session, &[Message::new("user", question)])?;
        engine.generate(session, &GenerateOptions { max_tokens: Some(16), ..GenerateOptions::default() })?;
        waiting.push((session, who));
    }
    let mut answers = Vec::new();
    while !waiting.is_empty() {
        if engine.tick() != TickOutcome::Advanced {
            engine.rest();
        }
        // A load that fails ends its sessions; this says why.
        engine.progress(model)?;
        let mut at = 0;
        while let Some((session, who)) = waiting.get(at).copied() {
            if engine.phase(session)?.is_active() {
                at += 1;
                continue;
            }
            let answer = engine.output(session)?.text.clone();
            println!("{who}: {}", answer.trim());
            answers.push((who, answer));
            waiting.remove(at);
        }
    }
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
