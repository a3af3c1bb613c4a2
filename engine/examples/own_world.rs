//! Weft inside a `World` of one's own: plugins, systems beside the pipeline's, and functions instead of `Engine`'s methods.
//!
//! `cargo run --release -p weft --example own_world -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::bevy_ecs::prelude::*;
use weft::components::{AtLayer, Wave};
use weft::world::{self, SessionId};
use weft::{
    CorePlugin, CpuPlugin, EngineOptions, GenerateOptions, LoadOptions, Message, Output, SessionOptions,
    TickOutcome, TickSet, add_plugin, add_systems, systems,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// A character of the game. Its session is an entity of the same world.
#[derive(Component)]
struct Character {
    name: &'static str,
    session: SessionId,
}

/// Rows that have passed through the model.
#[derive(Resource, Default)]
struct Rows(usize);

/// Counts rows where their tokens are about to be chosen, before the pipeline's own system of that set.
fn count_rows(waves: Query<'_, '_, &Wave>, mut rows: ResMut<'_, Rows>) {
    rows.0 += waves.iter().filter(|wave| wave.at == AtLayer::Sample).map(Wave::rows).sum::<usize>();
}

/// Runs one character in a world of its own, and returns what it says.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut world = World::new();
    add_plugin(&mut world, &CorePlugin::default());
    add_plugin(&mut world, &CpuPlugin::new(&EngineOptions::default())?);
    world.init_resource::<Rows>();
    add_systems(&mut world, TickSet::Sample, count_rows.before(systems::sample));

    let model = world::load(&mut world, model, &LoadOptions::default())?;
    let session = world::open_session(&mut world, model, &SessionOptions::default())?;
    world.spawn(Character { name: "Miller", session });
    world::set_messages(&mut world, session, &[Message::new("user", "Name three fruits.")])?;
    let options = GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() };
    world::generate(&mut world, session, &options)?;

    // The game's loop. `tick` never waits; `tick_for` also keeps to a time.
    while world::phase(&world, session)?.is_active() {
        if weft::tick(&mut world) != TickOutcome::Advanced {
            world::rest(&mut world);
        }
    }
    world::progress(&world, model)?;
    let mut characters = world.query::<&Character>();
    let character = characters.single(&world)?;
    let said = world.get::<Output>(character.session.0).ok_or("no output")?.text.clone();
    println!("{} says: {said}", character.name);
    println!("{} rows", world.resource::<Rows>().0);
    Ok(said)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
