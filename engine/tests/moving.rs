//! Layers and ends that move, are evicted and load again in mid-answer. The text is the reference's each time.

use crate::backend::{ThreadPlugin, Worker, engine, held, on_thread};
use crate::common::company::{prompts, say_together};
use crate::common::reference::CLEAR_TINY;
use crate::common::requests::asks;
use crate::common::{gaps, golden, golden_json, greedy, ids, loaded, told};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use weft::components::{Ends, HeldBy, Layers, MissingShards, Place, PlacedOn, Resident};
use weft::stages::load::{evict_layer, retry_load};
use weft::storage::{MemorySource, Source, StorageError};
use weft::{Engine, EngineOptions, Error, LoadOptions, ModelId, ModelSource, TickOutcome};

const CPU: Place = Place::new(0);

/// tiny-llama's prompt and what the reference says, as far as rounding cannot change it.
pub(crate) fn reference() -> (Vec<u32>, Vec<u32>) {
    let reference = golden_json("tiny/tiny-llama.json");
    let (mut wanted, gaps) = (ids(&reference["greedy"]), gaps(&reference));
    wanted.truncate(gaps.iter().position(|gap| *gap < CLEAR_TINY).unwrap_or(wanted.len()));
    assert!(wanted.len() >= 8, "too little to move anything in: {}", wanted.len());
    (ids(&reference["tokens"]), wanted)
}

/// Says what the reference says, with `each` called once before every token, with the number of tokens so far.
pub(crate) fn says_the_reference(
    engine: &mut Engine,
    model: ModelId,
    mut each: impl FnMut(&mut Engine, usize),
) {
    let (tokens, wanted) = reference();
    let session = told(engine, model, &tokens);
    engine.generate(session, &asks(wanted.len())).unwrap();
    let mut next = 0;
    while engine.phase(session).unwrap().is_active() {
        let said = engine.output(session).unwrap().tokens.len();
        if said >= next {
            each(engine, said);
            next = said + 1;
        }
        if engine.tick() != TickOutcome::Advanced {
            engine.rest();
        }
    }
    assert_eq!(engine.output(session).unwrap().tokens, wanted);
    engine.close(session);
}

/// The layers of a model.
pub(crate) fn layers(engine: &Engine, model: ModelId) -> Vec<bevy_ecs::entity::Entity> {
    engine.world().get::<Layers>(model.0).unwrap().entities().to_vec()
}

/// Wants a layer elsewhere.
pub(crate) fn place(engine: &mut Engine, model: ModelId, layer: usize, to: Place) {
    let layer = layers(engine, model)[layer];
    engine.world_mut().entity_mut(layer).insert(PlacedOn(to));
}

fn thread(engine: &Engine) -> Place {
    engine.world().resource::<Worker>().place
}

#[test]
fn a_layer_moves_there_and_back() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    engine.add_plugin(&ThreadPlugin { half: false });
    let to = thread(&engine);
    says_the_reference(&mut engine, model, |engine, said| match said {
        3 => place(engine, model, 1, to),
        6 => {
            assert_eq!(held(engine, model), [CPU, to, CPU]);
            place(engine, model, 1, CPU);
        }
        _ => {}
    });
    assert_eq!(held(&engine, model), [CPU; 3]);
    // Nothing of it is left there: all of its weights are resident, and the text is right without the thread.
    assert!(engine.progress(model).unwrap().is_complete());
    says_the_reference(&mut engine, model, |_, _| {});
}

#[test]
fn every_layer_moves_one_after_another_at_every_token() {
    let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), false);
    let there = thread(&engine);
    says_the_reference(&mut engine, model, |engine, said| {
        let to = if (said / 3).is_multiple_of(2) { CPU } else { there };
        place(engine, model, said % 3, to);
    });
    // A layer that moves while it is still on the way to its last place.
    let mut at = [CPU, there].into_iter().cycle();
    says_the_reference(&mut engine, model, |engine, _| {
        for layer in 0..3 {
            let to = at.next().unwrap();
            place(engine, model, layer, to);
            engine.tick();
        }
    });
}

#[test]
fn moves_do_not_change_what_many_sessions_say() {
    let path = golden("tiny/tiny-llama.gguf");
    let (mut engine, model) = on_thread(path.as_path(), true);
    let (tokens, _) = reference();
    let prompts = &prompts(engine.config(model).unwrap().vocabulary, &tokens)[..6];
    let wanted = say_together(&mut engine, model, prompts, |_| asks(12));
    let there = thread(&engine);
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    for session in &sessions {
        engine.generate(*session, &asks(12)).unwrap();
    }
    let mut ticks = 0;
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        ticks += 1;
        match ticks % 90 {
            20 => place(&mut engine, model, 0, there),
            40 => place(&mut engine, model, 2, CPU),
            60 => place(&mut engine, model, 0, CPU),
            80 => place(&mut engine, model, 2, there),
            _ => {}
        }
        if engine.tick() != TickOutcome::Advanced {
            engine.rest();
        }
    }
    let said: Vec<_> =
        sessions.iter().map(|session| engine.output(*session).unwrap().tokens.clone()).collect();
    assert_eq!(said, wanted);
}

#[test]
fn what_is_refused_stays_where_it_is() {
    let mut engine = engine(false);
    engine.world_mut().resource_mut::<Worker>().refuses = true;
    let there = thread(&engine);
    // A load says who refuses.
    let error = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the thread takes no more"), "{error}");
    engine.world_mut().resource_mut::<Worker>().refuses = false;
    let count = LoadOptions { gpu_layers: weft::GpuLayers::Count(1), ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &count).unwrap();
    engine.world_mut().resource_mut::<Worker>().refuses = true;
    let ends = Ends { embed: CPU, head: CPU };
    assert_eq!(*engine.world().get::<Ends>(model.0).unwrap(), ends, "the thread computes layers only");
    says_the_reference(&mut engine, model, |engine, said| match said {
        2 => place(engine, model, 0, there),
        // No backend has such a place.
        3 => place(engine, model, 1, Place::new(7)),
        4 => {
            engine.world_mut().entity_mut(model.0).insert(Ends { embed: CPU, head: there });
        }
        _ => {}
    });
    assert_eq!(held(&engine, model), [CPU, CPU, there]);
    for layer in layers(&engine, model) {
        let world = engine.world();
        assert_eq!(world.get::<PlacedOn>(layer).unwrap().0, world.get::<HeldBy>(layer).unwrap().0);
    }
    assert_eq!(*engine.world().get::<Ends>(model.0).unwrap(), ends);
}

/// Evicts layers in mid-answer, each at its token.
pub(crate) fn evicted_layers_come_back(engine: &mut Engine, model: ModelId) {
    let layers = layers(engine, model);
    let mut evicted = 0;
    says_the_reference(engine, model, |engine, said| {
        let layer = layers[said % layers.len()];
        if evict_layer(engine.world_mut(), layer) {
            evicted += 1;
            assert!(engine.world().get::<Resident>(layer).is_none());
            assert!(!evict_layer(engine.world_mut(), layer), "twice is once");
        }
    });
    assert!(evicted >= layers.len(), "{evicted}");
    // All at once, and nothing is loaded before a wave needs it.
    for layer in &layers {
        evict_layer(engine.world_mut(), *layer);
    }
    while engine.tick() == TickOutcome::Advanced {}
    assert!(layers.iter().all(|layer| !engine.world().get::<MissingShards>(*layer).unwrap().0.is_empty()));
    assert_eq!(engine.progress(model).unwrap().layers, 0);
    says_the_reference(engine, model, |_, _| {});
    assert!(engine.progress(model).unwrap().is_complete());
}

#[test]
fn an_evicted_layer_comes_back_on_the_cpu() {
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    evicted_layers_come_back(&mut engine, model);
}

#[test]
fn an_evicted_layer_comes_back_on_a_thread() {
    for half in [false, true] {
        let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), half);
        evicted_layers_come_back(&mut engine, model);
    }
}

#[test]
fn an_evicted_layer_moves_before_it_is_back() {
    let (mut engine, model) = on_thread(golden("tiny/tiny-llama.gguf").as_path(), true);
    let there = thread(&engine);
    says_the_reference(&mut engine, model, |engine, said| {
        let (layer, to) = (said % 3, if said.is_multiple_of(2) { CPU } else { there });
        let entity = layers(engine, model)[layer];
        evict_layer(engine.world_mut(), entity);
        place(engine, model, layer, to);
    });
}

// --- Sources that fail ----------------------------------------------------------------------------------------------

/// What a source fails with.
#[derive(Default)]
struct Trouble {
    /// Reads that succeed before the others fail.
    good: AtomicUsize,
    /// Reads that fail then.
    bad: AtomicUsize,
}

/// A model in memory whose reads fail for a while.
struct Unreliable {
    bytes: MemorySource,
    kind: ErrorKind,
    polled: bool,
    trouble: Arc<Trouble>,
}

impl Unreliable {
    fn fail(&self, offset: u64, len: usize) -> Result<(), StorageError> {
        let less = |count: usize| count.checked_sub(1);
        let Trouble { good, bad } = &*self.trouble;
        if good.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
            || bad.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
        {
            return Ok(());
        }
        Err(StorageError::Read {
            name: self.name().to_owned(),
            start: offset,
            end: offset + len as u64,
            source: Arc::new(self.kind.into()),
        })
    }
}

impl Source for Unreliable {
    fn name(&self) -> &str {
        self.bytes.name()
    }

    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn poll_read(
        &self,
        context: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        self.fail(offset, buffer.len())?;
        self.bytes.poll_read(context, offset, buffer)
    }

    fn is_polled(&self) -> bool {
        self.polled
    }
}

/// tiny-llama from a source that gives `good` more reads of weights and then fails `bad` times.
fn unreliable(kind: ErrorKind, polled: bool, good: usize, bad: usize) -> (Engine, ModelId, Arc<Trouble>) {
    let trouble = Arc::new(Trouble::default());
    let bytes = std::fs::read(golden("tiny/tiny-llama.gguf")).unwrap();
    let bytes = MemorySource::new("unreliable.gguf", bytes);
    let source = Arc::new(Unreliable { bytes, kind, polled, trouble: Arc::clone(&trouble) });
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let prepared = weft::PreparedModel::read(
        ModelSource::Parts(vec![source as Arc<dyn Source>]),
        &LoadOptions::default(),
    )
    .unwrap();
    trouble.good.store(good, Ordering::Relaxed);
    trouble.bad.store(bad, Ordering::Relaxed);
    let model = engine.load_prepared(prepared).unwrap();
    (engine, model, trouble)
}

#[test]
fn a_source_that_fails_in_passing_is_read_again() {
    for polled in [false, true] {
        let (mut engine, model, trouble) = unreliable(ErrorKind::ConnectionReset, polled, 7, 3);
        says_the_reference(&mut engine, model, |_, _| {});
        assert!(engine.progress(model).unwrap().is_complete());
        assert_eq!(trouble.bad.load(Ordering::Relaxed), 0, "it has failed");
    }
}

#[test]
fn a_load_that_failed_goes_on_where_it_stopped() {
    for polled in [false, true] {
        let (mut engine, model, trouble) = unreliable(ErrorKind::PermissionDenied, polled, 12, usize::MAX);
        let other = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &LoadOptions::default()).unwrap();
        let (tokens, wanted) = reference();
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(wanted.len())).unwrap();
        let error = engine.wait(session).unwrap_err();
        assert!(matches!(error, Error::Load(_)), "{error:?}");
        assert!(error.to_string().contains("unreliable.gguf"), "{error}");
        assert!(matches!(engine.progress(model), Err(Error::Load(_))));
        // Another model of the same engine answers.
        says_the_reference(&mut engine, other, |_, _| {});
        let arrived = trouble_is_over(&mut engine, model, &trouble);
        assert!(arrived > 0, "what has arrived is kept");
        says_the_reference(&mut engine, model, |_, _| {});
        assert!(engine.progress(model).unwrap().is_complete());
    }
}

/// Ends the trouble and goes on with the load. Returns the shards that had arrived before.
fn trouble_is_over(engine: &mut Engine, model: ModelId, trouble: &Trouble) -> usize {
    trouble.bad.store(0, Ordering::Relaxed);
    retry_load(engine.world_mut(), model.0).unwrap();
    engine.progress(model).unwrap().shards
}

#[test]
fn a_source_that_fails_in_mid_answer_ends_it_with_the_reason() {
    for polled in [false, true] {
        let (mut engine, model, trouble) = unreliable(ErrorKind::PermissionDenied, polled, usize::MAX, 0);
        engine.wait_loaded(model).unwrap();
        let (tokens, wanted) = reference();
        let session = told(&mut engine, model, &tokens);
        engine.generate(session, &asks(wanted.len())).unwrap();
        while engine.output(session).unwrap().tokens.len() < 4 {
            engine.tick();
        }
        trouble.good.store(0, Ordering::Relaxed);
        trouble.bad.store(usize::MAX, Ordering::Relaxed);
        let layer = layers(&engine, model)[1];
        assert!(evict_layer(engine.world_mut(), layer));
        let error = engine.wait(session).unwrap_err();
        assert!(matches!(error, Error::Load(_)), "{error:?}");
        let said = engine.output(session).unwrap().tokens.clone();
        assert_eq!(said, wanted[..said.len()]);
        trouble_is_over(&mut engine, model, &trouble);
        // The session goes on where it was.
        engine.generate(session, &asks(wanted.len() - said.len())).unwrap();
        engine.wait(session).unwrap();
        let rest = engine.output(session).unwrap().tokens.clone();
        assert_eq!([said, rest].concat(), wanted);
        assert_eq!(greedy(&mut engine, model, &tokens, wanted.len()), wanted);
    }
}
