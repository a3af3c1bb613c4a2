//! A drafter of one's own: a system that foretells what a session will say. Here a form is filled in, whose lines are known.
//! The answer is what it would be without; it takes fewer waves.
//!
//! `cargo run --release -p weft --example custom_drafter -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::{Draft, DraftStats, TokenHistory};
use weft::{
    AdmitOptions, Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions, TickSet,
    systems,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// A text that answers are expected to go along with, as tokens.
#[derive(Resource)]
struct Expected(Vec<u32>);

/// Drafts what follows a session's last two tokens in the expected text.
fn foretell(expected: Res<'_, Expected>, mut sessions: Query<'_, '_, (&TokenHistory, &mut Draft)>) {
    for (TokenHistory(tokens), mut draft) in &mut sessions {
        let Some(last) = tokens.len().checked_sub(2).map(|start| &tokens[start..]) else { continue };
        let found = expected.0.windows(2).position(|pair| pair == last);
        draft.tokens.clear();
        if let Some(found) = found {
            draft.tokens.extend(expected.0[found + 2..].iter().take(8));
            // How sure the drafter is decides how many tokens are tried beside other sessions.
            draft.confidence = 0.9;
        }
    }
}

/// Answers a question twice: the second time the first answer is expected. Returns both answers, and what came of the
/// drafts.
pub fn run(model: &Path) -> Result<([String; 2], DraftStats), Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    engine.world_mut().insert_resource(Expected(Vec::new()));
    // Measured from waves unless it is set: here a wave costs as much as 16 of its rows.
    engine.world_mut().resource_mut::<AdmitOptions>().wave_cost = Some(16.0);
    engine.add_systems(TickSet::Speculate, foretell.after(systems::draft));
    let model = engine.load(model, &LoadOptions::default())?;
    let ask = |engine: &mut Engine, draft| -> Result<_, Box<dyn Error>> {
        let session = engine.open_session(model, &SessionOptions::default())?;
        engine.set_messages(
            session,
            &[Message::new("user", "Write a form with a name, a street and a town.")],
        )?;
        engine.generate(
            session,
            &GenerateOptions { max_tokens: Some(48), draft, ..GenerateOptions::default() },
        )?;
        engine.wait(session)?;
        Ok((session, engine.output(session)?.clone()))
    };
    let (_, first) = ask(&mut engine, 0)?;
    engine.world_mut().resource_mut::<Expected>().0 = first.tokens.clone();
    let (session, second) = ask(&mut engine, 8)?;
    let stats = engine.world().get::<Draft>(session.0).map(|draft| draft.stats).unwrap_or_default();
    println!("{}", second.text.trim());
    println!("{} of {} drafted tokens were right, in {} waves", stats.accepted, stats.drafted, stats.waves);
    Ok(([first.text, second.text], stats))
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| PathBuf::from(TINY), PathBuf::from);
    run(&model).map(|_| ())
}
