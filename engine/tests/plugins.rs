//! The engine inside out: plugins in a world of one's own, systems of one's own, and functions over the world.

use crate::common::requests::asks;
use crate::common::{golden, greedy, loaded, told};
use bevy_ecs::prelude::*;
use weft::components::{AtLayer, Wave};
use weft::world::{self, ModelId, SessionId};
use weft::{
    CorePlugin, CpuPlugin, Engine, EngineOptions, Error, GpuPlugin, LastTick, LayerSet, LoadOptions, Prompt,
    SessionOptions, TickOutcome, TickSet, add_plugin, add_systems, systems,
};

const TOKENS: usize = 12;

/// What tiny-llama says after three tokens.
fn wanted() -> Vec<u32> {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    greedy(&mut engine, model, &[1, 2, 3], TOKENS)
}

/// Asks tiny-llama in a world for the same.
fn ask(world: &mut World) -> SessionId {
    let model =
        world::load(world, golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    let session = world::open_session(world, model, &SessionOptions::default()).unwrap();
    world::append(world, session, Prompt::Tokens(vec![1, 2, 3])).unwrap();
    world::generate(world, session, &asks(TOKENS)).unwrap();
    session
}

#[test]
fn plugins_make_any_world_an_engine_in_any_order() {
    let mut world = World::new();
    assert!(add_plugin(&mut world, &CpuPlugin::new(&EngineOptions::default()).unwrap()));
    assert!(add_plugin(&mut world, &GpuPlugin::new(Vec::new())));
    assert!(add_plugin(&mut world, &CorePlugin::default()));
    assert!(!add_plugin(&mut world, &CorePlugin { max_rows: 1 }), "twice is once");
    let session = ask(&mut world);
    world::wait(&mut world, session).unwrap();
    assert_eq!(world::output(&world, session).unwrap().tokens, wanted());
    while weft::tick(&mut world) != TickOutcome::Idle {}
    assert_eq!(world.resource::<LastTick>().0, TickOutcome::Idle);
}

#[test]
fn a_world_goes_in_and_out_of_an_engine() {
    let mut world = World::new();
    add_plugin(&mut world, &CpuPlugin::new(&EngineOptions::default()).unwrap());
    let mut engine = Engine::from_world(world);
    let session = ask(engine.world_mut());
    while engine.output(session).unwrap().tokens.len() < 4 {
        if engine.tick() != TickOutcome::Advanced {
            engine.rest();
        }
    }
    let mut world = engine.into_world();
    while world::next_piece(&mut world, session).unwrap().is_some() {}
    assert_eq!(world::output(&world, session).unwrap().tokens, wanted());
}

#[test]
fn a_world_without_plugins_has_nothing_to_do() {
    let mut world = World::new();
    let entity = world.spawn_empty().id();
    let (model, session) = (ModelId(entity), SessionId(entity));
    assert_eq!(weft::tick(&mut world), TickOutcome::Idle);
    assert_eq!(weft::tick_for(&mut world, std::time::Duration::ZERO), TickOutcome::Idle);
    assert!(matches!(world::progress(&world, model), Err(Error::NoModel)));
    assert!(matches!(
        world::open_session(&mut world, model, &SessionOptions::default()),
        Err(Error::NoModel)
    ));
    assert!(matches!(world::generate(&mut world, session, &asks(1)), Err(Error::NoSession)));
    assert!(matches!(world::read(&mut world, session), Err(Error::NoSession)));
    assert!(matches!(world::cancel(&mut world, session), Err(Error::NoSession)));
    assert!(world::subscribe(&mut world, session).is_err());
    world::close_session(&mut world, session);
    world::unload(&mut world, model);
    assert!(world.get_entity(entity).is_ok(), "not theirs to despawn");
}

/// What systems of one's own saw.
#[derive(Resource, Default)]
struct Seen {
    /// Rows before the pipeline's own system of the set `Sample`, and after it.
    rows: [usize; 2],
    /// Tokens that sessions had at those times.
    tokens: [usize; 2],
    layers: usize,
}

fn see(at: usize) -> impl FnMut(Query<'_, '_, &Wave>, Query<'_, '_, &weft::Output>, ResMut<'_, Seen>) {
    move |waves, outputs, mut seen| {
        let rows: usize = waves.iter().filter(|wave| wave.at == AtLayer::Sample).map(Wave::rows).sum();
        if rows > 0 {
            seen.rows[at] += rows;
            seen.tokens[at] = outputs.iter().map(|output| output.tokens.len()).sum();
        }
    }
}

#[test]
fn systems_of_ones_own_run_where_they_are_ordered() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.world_mut().init_resource::<Seen>();
    let layers = engine.config(model).unwrap().layers;
    engine
        .add_systems(TickSet::Sample, (see(0).before(systems::sample), see(1).after(systems::sample)))
        .add_systems(LayerSet::Ffn, (|mut seen: ResMut<'_, Seen>| seen.layers += 1).after(systems::ffn_cpu));
    let session = told(&mut engine, model, &[1, 2, 3]);
    engine.generate(session, &asks(TOKENS)).unwrap();
    engine.wait(session).unwrap();
    let seen = engine.world().resource::<Seen>();
    assert_eq!(seen.rows, [2 + TOKENS; 2], "each row passes once");
    assert_eq!(seen.tokens, [TOKENS - 1, TOKENS], "the last token is chosen between the two");
    assert_eq!(seen.layers, TOKENS * layers);
}

#[test]
fn a_closure_is_a_plugin() {
    #[derive(Resource)]
    struct Added;
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    engine.add_plugin(&|world: &mut World| {
        world.insert_resource(Added);
        add_systems(
            world,
            TickSet::Reclaim,
            (|mut commands: Commands<'_, '_>| commands.remove_resource::<Added>())
                .after(systems::finish_tick),
        );
    });
    assert!(engine.world().contains_resource::<Added>());
    engine.tick();
    assert!(!engine.world().contains_resource::<Added>());
}
