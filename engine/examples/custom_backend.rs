//! A backend of your own: layers are computed on another thread, behind a channel, as they would be on another machine.
//!
//! `cargo run --release -p weft --example custom_backend -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use weft::bevy_ecs::prelude::*;
use weft::components::{CurrentLayer, HeldBy, Layers, Place, Shards, Wave, WeightShard};
use weft::stages::host::HostCpu;
use weft::stages::load::{ModelOrigin, fail_model};
use weft::stages::on_cpu::{CpuLayer, CpuPlan, CpuPrepare, CpuScratch, CpuWeights, Weights, drop_weights};
use weft::stages::place::{Assignment, LoadError, Need, PlaceError, PlaceErrorKind, Prepare, Taken};
use weft::{Backend, Backends, Cpu, Engine, EngineOptions, GenerateOptions, KvArena, LayerSet, LoadOptions};
use weft::{Message, ModelConfig, SessionOptions, ShardOwner, ShardSpec, Wake, add_systems};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Work for the thread, which has scratch memory of its own.
type Work = Box<dyn FnOnce(&mut CpuScratch) + Send>;

/// The backend's place, and the way to its thread, which ends with the world.
#[derive(Resource, Clone)]
struct Thread(Place, Sender<Work>);

/// Keys and values of the layers on the thread, which alone locks them. A component of the model.
#[derive(Component)]
struct Kv(Arc<Mutex<Vec<KvArena>>>);

/// Where a wave comes back, and whether its layer was computed. A component of the wave.
#[derive(Component)]
struct Away(Option<Mutex<Receiver<(Wave, bool)>>>);

impl Backend for Thread {
    fn name(&self, _: &World) -> String {
        "another thread".to_owned()
    }
    fn takes_ends(&self) -> bool {
        false // The embedding and the head stay on the CPU.
    }
    fn fits(&self, _: &World, _: &Assignment<'_>) -> Result<Need, PlaceError> {
        Ok(Need::default())
    }
    /// Takes memory for layers. Their weights follow, as `install` says.
    fn prepare(&self, world: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError> {
        if !wanted.layers.is_empty() && world.get::<Kv>(wanted.model).is_none() {
            let kv = wanted.kv_arenas().map_err(|error| PlaceError::new(PlaceErrorKind::Memory, error))?;
            world.entity_mut(wanted.model).insert(Kv(Arc::new(Mutex::new(kv))));
        }
        Ok(Taken { layers: wanted.layers.clone(), limits: wanted.limits })
    }
    /// A shard of a layer that is held here becomes weights as on the CPU, the component `CpuWeights`.
    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>> {
        let ShardOwner::Layer(index) = shard.owner else { return None };
        let layer = world.get::<Layers>(model)?.entities().get(index)?;
        let kernels = HostCpu::of(world).kernels;
        (world.get::<HeldBy>(*layer)?.0 == self.0).then(|| Arc::new(CpuPrepare { kernels }) as _)
    }
    fn evict(&self, world: &mut World, model: Entity, layer: usize) {
        drop_weights(world, model, layer);
    }
    fn release_layer(&self, world: &mut World, model: Entity, layer: usize) {
        drop_weights(world, model, layer); // Keys and values of all layers go with the model.
    }
    fn release(&self, world: &mut World, model: Entity) {
        world.entity_mut(model).remove::<Kv>();
    }
    /// The hidden state of a wave that enters is on the host, where the thread takes it from.
    fn enter(&self, world: &mut World, wave: Entity) -> bool {
        world.entity_mut(wave).insert(Away(None));
        world.get_mut::<Wave>(wave).map(|mut wave| wave.place = Some(self.0)).is_some()
    }
    fn leave(&self, world: &mut World, wave: Entity) -> bool {
        world.get_mut::<Wave>(wave).map(|mut wave| wave.place = None).is_some()
    }
    fn abandon(&self, world: &mut World, wave: Entity) {
        world.entity_mut(wave).remove::<Away>(); // What comes back finds no receiver.
    }
}

/// Sends the wave of the current layer to the thread, or takes it back. Never waits: later ticks run it again.
fn compute(
    mut commands: Commands<'_, '_>,
    mut current: ResMut<'_, CurrentLayer>,
    (thread, host, wake): (Res<'_, Thread>, Res<'_, HostCpu>, Res<'_, Wake>),
    models: Query<'_, '_, (&ModelConfig, &CpuPlan, &Kv)>,
    layers: Query<'_, '_, &Shards>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights)>,
    mut waves: Query<'_, '_, (&mut Wave, &mut Away)>,
) {
    let CurrentLayer { wave, model, layer, index, place, .. } = *current;
    let (Ok((config, plan, kv)), Ok(layer)) = (models.get(model), layers.get(layer)) else { return };
    let (Ok((mut wave, mut away)), true) = (waves.get_mut(wave), place == thread.0) else { return };
    if let Some(back) = &mut away.0 {
        match back.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok((rows, done)) => {
                (*wave, away.0) = (rows, None);
                (current.attended, current.computed) = (done, done);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => commands.queue(move |world: &mut World| lost(world, model)),
        }
        return;
    }
    // The rows go. A wave without rows stays and says where they are.
    let stand_in = Wave { at: wave.at, turn: wave.turn, place: wave.place, ..Wave::default() };
    let mut rows = std::mem::replace(&mut *wave, stand_in);
    let (config, kv) = (config.clone(), Arc::clone(&kv.0));
    let weights: Weights = shards.iter_many(layer.entities()).matched().collect();
    let (ropes, adapters) = (plan.ropes.clone().unwrap_or_default(), plan.adapters.clone());
    let (cpu, wake) = (Cpu { kernels: host.0.kernels, threads: 1 }, Arc::clone(&wake.0));
    let (reply, back) = channel();
    let work = move |scratch: &mut CpuScratch| {
        let (config, weights, ropes) = (&config, &weights, &*ropes);
        let layer = CpuLayer { cpu: &cpu, config, weights, ropes, adapters: &adapters, index };
        let mut kv = kv.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.turn(ropes, &rows.positions);
        let done = layer.attend(&mut rows, scratch, &mut kv) && layer.feed_forward(&mut rows, scratch);
        let _ = reply.send((rows, done)); // Fails if the wave has been abandoned.
        wake.notify();
    };
    let _ = thread.1.send(Box::new(work)); // If the thread has ended, so has `reply`.
    away.0 = Some(Mutex::new(back));
}

/// The thread has ended, and the rows that it had are lost: the model's sessions end with an error.
fn lost(world: &mut World, model: Entity) {
    let source = PlaceError::new(PlaceErrorKind::Other, std::io::Error::other("the thread has ended"));
    let file = world.get::<ModelOrigin>(model).map_or_else(String::new, ModelOrigin::file);
    fail_model(world, model, LoadError::Place { file, place: "another thread".to_owned(), source });
}

/// Adds the backend to a world: its place, its thread and its system.
fn thread_plugin(world: &mut World) {
    let (sender, works) = channel::<Work>();
    std::thread::spawn(move || {
        let mut scratch = CpuScratch::default();
        works.into_iter().for_each(|work| work(&mut scratch));
    });
    let place = Backends::register(world, |place| Thread(place, sender.clone()));
    world.insert_resource(Thread(place, sender));
    add_systems(world, LayerSet::Attention, compute);
}

/// Asks the model in a file. Its layers go to the thread, the only place beside the CPU.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    let mut engine = Engine::new(&EngineOptions::default())?;
    let model = engine.add_plugin(&thread_plugin).load(model, &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.set_messages(session, &[Message::new("user", "Name three fruits.")])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;
    engine.wait(session)?;
    println!("{}", engine.output(session)?.text);
    Ok(engine.output(session)?.text.clone())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from)).map(|_| ())
}
