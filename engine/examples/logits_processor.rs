//! A logits processor of one's own: a system that changes logits before tokens are chosen. This one writes without a letter, by
//! making every token that contains it impossible. The session's own sampler chooses among the others.
//!
//! `cargo run --release -p weft --example logits_processor -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::{AtLayer, ModelConfig, ReadsLogits, SessionOf, Wave};
use weft::{
    Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SampleSet, SessionOptions, Tokenizer,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// The letter to do without.
pub const LETTER: u8 = b'e';

/// Tokens that a session never says. It needs [`ReadsLogits`] too, so that a GPU brings its logits to the host.
#[derive(Component)]
#[require(ReadsLogits)]
struct Forbidden(Vec<u32>);

/// Makes forbidden tokens impossible in the rows of logits from which the next tokens are chosen.
fn forbid(
    mut waves: Query<'_, '_, &mut Wave>,
    sessions: Query<'_, '_, (&Forbidden, &SessionOf)>,
    models: Query<'_, '_, &ModelConfig>,
) {
    // Waves at `Sample` have their logits on the host. Each span holds rows of one session.
    for mut wave in waves.iter_mut().filter(|wave| wave.at == AtLayer::Sample) {
        let Wave { spans, logits, .. } = &mut *wave;
        for span in spans.iter() {
            let Ok((Forbidden(forbidden), of)) = sessions.get(span.session) else { continue };
            let Ok(config) = models.get(of.0) else { continue };
            let Some(last) = span.logits.clone().next_back() else { continue };
            let row = logits.chunks_exact_mut(config.vocabulary).nth(last).unwrap_or_default();
            for token in forbidden {
                if let Some(logit) = row.get_mut(*token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// Tokens whose text contains [`LETTER`], small or capital.
pub fn with_letter(tokenizer: &Tokenizer) -> Vec<u32> {
    let contains = |token: &u32| {
        let bytes = tokenizer.token_bytes(*token, false).unwrap_or_default();
        bytes.iter().any(|byte| byte.eq_ignore_ascii_case(&LETTER))
    };
    (0..tokenizer.vocab_size() as u32).filter(contains).collect()
}

/// Asks the model in a file, and returns its answer without the letter.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    engine.add_systems(SampleSet::Process, forbid);
    let model = engine.load(model, &LoadOptions::default())?;
    let forbidden = with_letter(engine.tokenizer(model)?);
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.world_mut().entity_mut(session.0).insert(Forbidden(forbidden));
    engine.set_messages(session, &[Message::new("user", "What is the capital of France?")])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;
    engine.wait(session)?;
    let answer = engine.output(session)?.text.clone();
    println!("{answer}");
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
