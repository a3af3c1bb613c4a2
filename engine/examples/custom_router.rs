//! A router of one's own: a system that gives each question to one of several models. Here to the one with the fewest active
//! sessions; a server might go by the question's length, or by who asks.
//!
//! `cargo run --release -p weft --example custom_router -- MODEL.gguf OTHER.gguf`

#![allow(clippy::print_stdout, reason = "the answers are for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::Sessions;
use weft::world::{self, ModelId, SessionId};
use weft::{
    Engine, EngineOptions, GenerateOptions, LoadOptions, Message, SessionOptions, TickOutcome, TickSet,
    systems,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// The questions, in the order in which they are asked.
pub const QUESTIONS: [&str; 4] = [
    "Which country is Lima in?",
    "Which country is Rome in?",
    "Which country is Oslo in?",
    "Which country is Cairo in?",
];

/// The models to choose from.
#[derive(Resource)]
struct Models(Vec<ModelId>);

/// A question that no model has been given yet.
#[derive(Component)]
struct Question(&'static str);

/// The session that answers a question.
#[derive(Component)]
struct AnsweredBy(SessionId);

/// Number of a model's active sessions.
fn load(world: &World, model: ModelId) -> usize {
    let sessions = world.get::<Sessions>(model.0).map_or(&[][..], |sessions| sessions.entities());
    let active =
        |session: &&Entity| world::phase(world, SessionId(**session)).is_ok_and(|phase| phase.is_active());
    sessions.iter().filter(active).count()
}

/// Opens a session for a question on the model with the fewest active ones.
fn ask(world: &mut World, question: &str) -> Result<Option<SessionId>, weft::Error> {
    let models = world.resource::<Models>().0.iter();
    let Some(model) = models.copied().min_by_key(|model| load(world, *model)) else { return Ok(None) };
    let session = world::open_session(world, model, &SessionOptions::default())?;
    world::set_messages(world, session, &[Message::new("user", question)])?;
    let options = GenerateOptions { max_tokens: Some(16), ..GenerateOptions::default() };
    world::generate(world, session, &options)?;
    Ok(Some(session))
}

/// Gives the questions that have come since the last tick to models.
fn route(world: &mut World, questions: &mut QueryState<(Entity, &Question), Without<AnsweredBy>>) {
    let asked: Vec<_> = questions.iter(world).map(|(entity, question)| (entity, question.0)).collect();
    for (entity, question) in asked {
        match ask(world, question) {
            Ok(Some(session)) => {
                world.entity_mut(entity).insert(AnsweredBy(session));
            }
            Ok(None) => {}
            Err(error) => {
                println!("{question} {error}");
                world.despawn(entity);
            }
        }
    }
}

/// Asks the models in files questions at the same time. Returns which model answered each, and what.
pub fn run(models: &[PathBuf]) -> Result<Vec<(usize, String)>, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    engine.add_systems(TickSet::Admit, route.before(systems::admit));
    let load = |path: &PathBuf| engine.load(Path::new(path), &LoadOptions::default());
    let models = models.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    engine.world_mut().insert_resource(Models(models.clone()));
    // Any system of the program may ask: a question is an entity.
    let questions: Vec<Entity> =
        QUESTIONS.iter().map(|question| engine.world_mut().spawn(Question(question)).id()).collect();
    let mut answers = Vec::new();
    for (question, text) in questions.into_iter().zip(QUESTIONS) {
        let session = loop {
            if let Some(AnsweredBy(session)) = engine.world().get::<AnsweredBy>(question) {
                break *session;
            }
            if engine.tick() == TickOutcome::Idle {
                return Err("nobody answers".into());
            }
        };
        engine.wait(session)?;
        let model = engine.model_of(session)?;
        let number = models.iter().position(|other| *other == model).ok_or("a model is gone")?;
        let answer = engine.output(session)?.text.clone();
        println!("model {number}: {text} {}", answer.trim());
        answers.push((number, answer));
    }
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut models: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    models.resize(models.len().max(2), TINY.into());
    run(&models).map(|_| ())
}
