//! Layers, ends and models that are placed, refused and placed again: what stays, what is loaded, and who is told. The
//! backend of these tests computes nothing.

use crate::backend::{ThreadPlugin, Worker, engine, held, on_thread};
use crate::common::requests::asks;
use crate::common::{golden, greedy, loaded, told};
use crate::moving::{layers, place, reference, says_the_reference};
use std::sync::Arc;
use weft::bevy_ecs::prelude::*;
use weft::components::{ContextCursor, Ends, Layers, Place, PlacedOn, Resident, WaveLimits, WeightShard};
use weft::stages::load::{
    LoadQueue, evict_layer, fail_model, move_ends, move_layer, place_model, retry_load,
};
use weft::stages::place::{
    Assignment, LoadError, Need, PlaceError, PlaceErrorKind, Prepare, Preparing, Taken,
};
use weft::{
    Backend, Backends, Engine, EngineOptions, Error, FinishReason, LoadOptions, ModelId, Phase, ShardSpec,
    TickOutcome,
};

const CPU: Place = Place::new(0);

/// What [`Stub`] does when it is asked to read a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reads {
    /// It reads no shard.
    #[default]
    Nothing,
    /// It panics before the rows come.
    PanicsFirst,
    /// It panics after the rows have come.
    PanicsLast,
}

/// A backend that computes nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Stub {
    refuses: bool,
    /// Rows of a wave on it.
    rows: Option<usize>,
    reads: Reads,
}

impl Stub {
    fn register(self, engine: &mut Engine) -> Place {
        Backends::register(engine.world_mut(), |_| self)
    }
}

impl Prepare for Stub {
    fn begin(&self, _: &WeightShard, _: &str) -> Result<Box<dyn Preparing>, LoadError> {
        assert!(self.reads != Reads::PanicsFirst, "a backend's bug");
        Ok(Box::new(*self))
    }
}

impl Preparing for Stub {
    fn rows(&self, _: usize, _: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<weft::stages::place::Install, LoadError> {
        panic!("a backend's bug");
    }
}

impl Backend for Stub {
    fn name(&self, _: &World) -> String {
        "a stub".to_owned()
    }

    fn fits(&self, _: &World, _: &Assignment<'_>) -> Result<Need, PlaceError> {
        Ok(Need::default())
    }

    fn prepare(&self, _: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError> {
        if self.refuses {
            return Err(PlaceError::new(
                PlaceErrorKind::Memory,
                std::io::Error::other("no room in the stub"),
            ));
        }
        let rows = self.rows.unwrap_or(wanted.limits.rows);
        Ok(Taken { layers: wanted.layers.clone(), limits: WaveLimits { rows, ..wanted.limits } })
    }

    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>> {
        let weft::ShardOwner::Layer(index) = shard.owner else { return None };
        let layer = *world.get::<Layers>(model)?.entities().get(index)?;
        let here = Backends::of(world).at(world.get::<PlacedOn>(layer)?.0)?.name(world) == self.name(world);
        (here && self.reads != Reads::Nothing).then(|| Arc::new(*self) as Arc<dyn Prepare>)
    }

    fn evict(&self, _: &mut World, _: Entity, _: usize) {}

    fn release_layer(&self, _: &mut World, _: Entity, _: usize) {}

    fn release(&self, _: &mut World, _: Entity) {}

    fn enter(&self, _: &mut World, _: Entity) -> bool {
        false
    }

    fn leave(&self, _: &mut World, _: Entity) -> bool {
        false
    }

    fn abandon(&self, _: &mut World, _: Entity) {}
}

/// tiny-llama on the CPU, and the place of a stub.
fn beside(stub: Stub) -> (Engine, ModelId, Place) {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.wait_loaded(model).unwrap();
    let place = stub.register(&mut engine);
    (engine, model, place)
}

fn limits(engine: &Engine, model: ModelId) -> WaveLimits {
    *engine.world().get::<WaveLimits>(model.0).unwrap()
}

#[test]
fn limits_of_a_place_hold_while_it_holds_a_layer() {
    let (mut engine, model, to) = beside(Stub { rows: Some(3), ..Stub::default() });
    let before = limits(&engine, model);
    assert!(before.rows > 3);
    let layer = layers(&engine, model)[1];
    move_layer(engine.world_mut(), layer, to).unwrap();
    assert_eq!(limits(&engine, model).rows, 3);
    move_layer(engine.world_mut(), layer, CPU).unwrap();
    assert_eq!(limits(&engine, model), before);
    says_the_reference(&mut engine, model, |_, _| {});
}

#[test]
fn a_layer_of_which_nothing_is_read_is_whole() {
    let (mut engine, model, to) = beside(Stub::default());
    let (layer, whole) = (layers(&engine, model)[1], engine.progress(model).unwrap());
    move_layer(engine.world_mut(), layer, to).unwrap();
    engine.wait_loaded(model).unwrap();
    assert!(engine.world().get::<Resident>(layer).is_some());
    let without = engine.progress(model).unwrap();
    assert!(without.is_complete() && without.total_shards < whole.total_shards, "{without:?}");
    move_layer(engine.world_mut(), layer, CPU).unwrap();
    engine.wait_loaded(model).unwrap();
    assert_eq!(engine.progress(model).unwrap(), whole);
    says_the_reference(&mut engine, model, |_, _| {});
    // Also one that is placed there by the load.
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    Stub::default().register(&mut engine);
    let load = LoadOptions { gpu_layers: weft::GpuLayers::Count(1), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    let last = layers(&engine, model)[2];
    assert!(engine.world().get::<Resident>(last).is_some());
}

#[test]
fn ends_that_are_refused_stay_and_nothing_is_loaded_again() {
    let (mut engine, model, to) = beside(Stub { refuses: true, ..Stub::default() });
    let whole = engine.progress(model).unwrap();
    let here = Ends { embed: CPU, head: CPU };
    for wanted in [Ends { embed: to, ..here }, Ends { head: to, ..here }, Ends { embed: to, head: to }] {
        let error = move_ends(engine.world_mut(), model.0, wanted).unwrap_err();
        assert!(error.to_string().contains("no room in the stub"), "{error}");
        assert_eq!(*engine.world().get::<Ends>(model.0).unwrap(), here);
        assert_eq!(engine.progress(model).unwrap(), whole);
    }
    says_the_reference(&mut engine, model, |_, _| {});
    // A place that computes layers only is not asked.
    engine.add_plugin(&ThreadPlugin { half: false });
    let thread = engine.world().resource::<Worker>().place;
    let error = move_ends(engine.world_mut(), model.0, Ends { embed: CPU, head: thread }).unwrap_err();
    assert!(matches!(error, LoadError::NoEnds { .. }), "{error}");
    assert_eq!(*engine.world().get::<Ends>(model.0).unwrap(), here);
    says_the_reference(&mut engine, model, |_, _| {});
}

#[test]
fn a_wish_to_move_makes_a_tick_move() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.add_plugin(&ThreadPlugin { half: false });
    engine.wait_loaded(model).unwrap();
    while engine.tick() == TickOutcome::Advanced {}
    let to = engine.world().resource::<Worker>().place;
    place(&mut engine, model, 1, to);
    assert_eq!(engine.tick(), TickOutcome::Advanced);
    assert_eq!(held(&engine, model), [CPU, to, CPU]);
    says_the_reference(&mut engine, model, |_, _| {});
}

#[test]
fn a_wait_for_a_load_asks_for_what_was_evicted() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.wait_loaded(model).unwrap();
    let layer = layers(&engine, model)[1];
    assert!(evict_layer(engine.world_mut(), layer));
    engine.wait_loaded(model).unwrap();
    assert!(engine.world().get::<Resident>(layer).is_some());
}

#[test]
fn a_model_that_cannot_be_placed_ends_its_sessions_and_may_be_placed_later() {
    let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), false);
    engine.wait_loaded(model).unwrap();
    let (tokens, wanted) = reference();
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(wanted.len())).unwrap();
    while engine.output(session).unwrap().tokens.len() < 3 {
        engine.tick();
    }
    engine.world_mut().resource_mut::<Worker>().refuses = true;
    place_model(engine.world_mut(), model.0, true).unwrap_err();
    engine.tick();
    assert_eq!(engine.phase(session).unwrap(), Phase::Finished(FinishReason::ModelFailed));
    assert!(matches!(engine.progress(model), Err(Error::Load(_))));
    // A retry has the CPU take what the thread still refuses. The cached context went with the place.
    retry_load(engine.world_mut(), model.0).unwrap();
    engine.wait_loaded(model).unwrap();
    assert_eq!(held(&engine, model), [CPU; 3]);
    let said = engine.output(session).unwrap().tokens.clone();
    engine.generate(session, &asks(wanted.len() - said.len())).unwrap();
    engine.wait(session).unwrap();
    assert_eq!([said, engine.output(session).unwrap().tokens.clone()].concat(), wanted);
    // Placed again in mid-answer, the session goes on.
    engine.world_mut().resource_mut::<Worker>().refuses = false;
    let session = told(&mut engine, model, &tokens);
    engine.generate(session, &asks(wanted.len())).unwrap();
    while engine.output(session).unwrap().tokens.len() < 3 {
        engine.tick();
    }
    place_model(engine.world_mut(), model.0, true).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
    let thread = engine.world().resource::<Worker>().place;
    assert_eq!(held(&engine, model), [thread; 3]);
}

#[test]
fn a_failure_of_a_model_that_is_gone_is_nobody_s() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.unload(model);
    let gone = || LoadError::LoaderGone { file: "tiny".to_owned() };
    fail_model(engine.world_mut(), model.0, gone());
    assert_eq!(engine.tick(), TickOutcome::Idle);
    // The first reason counts.
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    fail_model(engine.world_mut(), model.0, LoadError::NoBackend { file: "tiny".to_owned() });
    fail_model(engine.world_mut(), model.0, gone());
    let error = engine.progress(model).unwrap_err();
    assert!(matches!(&error, Error::Load(load) if matches!(**load, LoadError::NoBackend { .. })));
}

#[test]
fn a_backend_that_panics_over_a_shard_fails_the_model_alone() {
    for reads in [Reads::PanicsFirst, Reads::PanicsLast] {
        for polled in [false, true] {
            let mut engine = engine(false);
            let other =
                engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
            engine.wait_loaded(other).unwrap();
            let path = golden("tiny/tiny-llama.gguf");
            let source = match polled {
                true => crate::common::polled::dripping(path.as_path(), 1 << 20),
                false => path.as_path().into(),
            };
            let model = engine.load(source, &LoadOptions::default()).unwrap();
            engine.wait_loaded(model).unwrap();
            let to = Stub { reads, ..Stub::default() }.register(&mut engine);
            let layer = layers(&engine, model)[1];
            move_layer(engine.world_mut(), layer, to).unwrap();
            let error = engine.wait_loaded(model).unwrap_err();
            assert!(matches!(&error, Error::Load(load) if matches!(**load, LoadError::LoaderGone { .. })));
            // Back on a place that works, the load goes on.
            move_layer(engine.world_mut(), layer, CPU).unwrap();
            retry_load(engine.world_mut(), model.0).unwrap();
            says_the_reference(&mut engine, model, |_, _| {});
            says_the_reference(&mut engine, other, |_, _| {});
        }
    }
}

#[test]
fn a_retry_leaves_evicted_layers_alone() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.wait_loaded(model).unwrap();
    for layer in layers(&engine, model) {
        assert!(evict_layer(engine.world_mut(), layer));
    }
    fail_model(engine.world_mut(), model.0, LoadError::LoaderGone { file: "tiny".to_owned() });
    assert!(engine.wait_loaded(model).is_err(), "a wait asks for nothing of a load that failed");
    retry_load(engine.world_mut(), model.0).unwrap();
    assert!(engine.world().get::<LoadQueue>(model.0).unwrap().is_idle(), "no wave has asked for a layer");
    engine.tick();
    assert_eq!(engine.progress(model).unwrap().layers, 0);
    says_the_reference(&mut engine, model, |_, _| {});
}

#[test]
fn an_order_may_name_sessions_twice_or_of_others_and_others_are_preempted() {
    use weft::AdmissionOrder;
    let options = LoadOptions { kv_tokens: Some(64), ..LoadOptions::default() };
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &options).unwrap();
    let other = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
    let (tokens, _) = reference();
    let wanted = greedy(&mut engine, model, &tokens, 20);
    // A session at rest, which no order names, holds all pages but one.
    let resting = told(&mut engine, model, &tokens.iter().copied().cycle().take(40).collect::<Vec<_>>());
    engine.generate(resting, &asks(1)).unwrap();
    engine.wait(resting).unwrap();
    let foreign = told(&mut engine, other, &tokens);
    engine.generate(foreign, &asks(20)).unwrap();
    let named = told(&mut engine, model, &tokens);
    engine.generate(named, &asks(20)).unwrap();
    let order = AdmissionOrder(vec![named.0, foreign.0, named.0, Entity::PLACEHOLDER]);
    engine.world_mut().entity_mut(model.0).insert(order);
    assert_eq!(engine.wait(named).unwrap(), FinishReason::MaxTokens);
    assert_eq!(engine.output(named).unwrap().tokens, wanted);
    engine.wait(foreign).unwrap();
    assert_eq!(engine.output(foreign).unwrap().tokens, wanted);
    // Preempted sessions of two models, each before the other in the order of the other's model.
    let asleep = [model, other].map(|model| {
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(20)).unwrap();
        engine.world_mut().get_mut::<ContextCursor>(session.0).unwrap().preempted = true;
        session
    });
    let [a, b] = asleep.map(|session| session.0);
    engine.world_mut().entity_mut(model.0).insert(AdmissionOrder(vec![b, a]));
    engine.world_mut().entity_mut(other.0).insert(AdmissionOrder(vec![a, b]));
    for session in asleep {
        engine.wait(session).unwrap();
        assert_eq!(engine.output(session).unwrap().tokens, wanted);
    }
}
