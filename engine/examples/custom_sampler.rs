//! A sampler of one's own: a system that chooses tokens for the sessions that ask for it. This one takes the most likely token
//! that is not among the last ones, so that an answer never turns in a circle.
//!
//! `cargo run --release -p weft --example custom_sampler -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::{AtLayer, Chosen, ModelConfig, ReadsLogits, SessionOf, TokenHistory, Wave};
use weft::{Engine, EngineOptions, GenerateOptions, LoadOptions, Message, Output, SampleSet, SessionOptions};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Tokens that may not come again.
pub const WINDOW: usize = 8;

/// A session with this component has its tokens chosen by [`choose`]. It needs [`ReadsLogits`] too, so that a GPU brings its
/// logits to the host.
#[derive(Component)]
#[require(ReadsLogits)]
struct NoRepeat {
    window: usize,
}

/// Chooses tokens in place of the sessions' own samplers.
fn choose(
    mut waves: Query<'_, '_, &mut Wave>,
    sessions: Query<'_, '_, (&NoRepeat, &TokenHistory, &SessionOf)>,
    models: Query<'_, '_, &ModelConfig>,
) {
    // Waves at `Sample` have their logits on the host. Each span holds rows of one session.
    for mut wave in waves.iter_mut().filter(|wave| wave.at == AtLayer::Sample) {
        let Wave { spans, logits, chosen, .. } = &mut *wave;
        chosen.resize(spans.len(), Chosen::Sampler);
        for (span, chosen) in spans.iter().zip(chosen) {
            let Ok((NoRepeat { window }, history, of)) = sessions.get(span.session) else { continue };
            let Ok(config) = models.get(of.0) else { continue };
            // A prompt that goes on in a later wave has no token to choose yet. Otherwise the span's last row of logits says
            // what may follow.
            let Some(last) = span.logits.clone().next_back().filter(|_| span.complete) else { continue };
            let row = logits.chunks_exact(config.vocabulary).nth(last).unwrap_or_default();
            let recent = &history.0[history.0.len().saturating_sub(*window)..];
            let allowed = row.iter().enumerate().filter(|(token, _)| !recent.contains(&(*token as u32)));
            if let Some((token, _)) = allowed.max_by(|a, b| a.1.total_cmp(b.1)) {
                *chosen = Chosen::System(token as u32);
            }
        }
    }
}

/// Asks the model in a file the same question twice, with the sampler above and without it. Returns the two answers.
pub fn run(model: &Path) -> Result<[Output; 2], Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    engine.add_systems(SampleSet::Choose, choose);
    let model = engine.load(model, &LoadOptions::default())?;
    let mut sessions = [engine.open_session(model, &SessionOptions::default())?; 2];
    sessions[1] = engine.open_session(model, &SessionOptions::default())?;
    engine.world_mut().entity_mut(sessions[0].0).insert(NoRepeat { window: WINDOW });
    for session in sessions {
        engine.set_messages(session, &[Message::new("user", "What is the capital of France?")])?;
        engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;
    }
    let mut answers = [Output::default(), Output::default()];
    for ((session, answer), how) in sessions.into_iter().zip(&mut answers).zip(["own sampler", "greedy"]) {
        engine.wait(session)?;
        answer.clone_from(engine.output(session)?);
        println!("{how}: {}", answer.text);
    }
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
