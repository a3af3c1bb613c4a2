//! Many sessions on one model, in a program with a loop of its own: a game's frame, or a server's turn. Their rows pass
//! through the model together, so eight answers take far less than eight times as long as one.
//!
//! `cargo run --release -p weft --example many_sessions -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions, TickOutcome};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// What to ask about.
pub const CITIES: [&str; 8] = ["Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Accra", "Quito"];

/// What the engine may take of each turn of the loop. A layer that has begun is finished.
const BUDGET: Duration = Duration::from_millis(4);

/// Asks the model in a file about every city, and returns the answers, one a line.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    let model = engine.load(model, &LoadOptions::default())?;
    let mut sessions = Vec::new();
    for city in CITIES {
        let session = engine.open_session(model, &SessionOptions::default())?;
        engine.set_messages(session, &[Message::new("user", format!("Which country is {city} in?"))])?;
        engine.generate(session, &GenerateOptions { max_tokens: Some(16), ..GenerateOptions::default() })?;
        sessions.push((session, String::new()));
    }
    let mut turns = 0;
    loop {
        // Here a game would read input and draw.
        turns += 1;
        let outcome = engine.tick_for(BUDGET);
        let mut active = 0;
        for (session, answer) in &mut sessions {
            answer.push_str(&engine.read(*session)?);
            active += usize::from(engine.phase(*session)?.is_active());
        }
        if active == 0 {
            break;
        }
        // A loop that draws would go on instead. This one has nothing else to do until weights or a GPU's step arrive.
        if outcome != TickOutcome::Advanced {
            engine.rest();
        }
        // A load that fails ends its sessions; this says why.
        engine.progress(model)?;
    }
    for (city, (_, answer)) in CITIES.iter().zip(&sessions) {
        println!("{city}: {}", answer.trim());
    }
    println!("{turns} turns of the loop");
    Ok(sessions.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>().join("\n"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
