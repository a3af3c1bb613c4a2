//! A backend of a test's own, written against the public API: it computes layers on a thread that has the weights and the
//! KV cache, and waves travel to it and back through channels. Its tests are in `backend/golden.rs`.

mod golden;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use weft::bevy_ecs::prelude::*;
use weft::components::{
    Adapters, CurrentLayer, HeldBy, LayerIndex, LayerOf, Layers, Place, Resident, Shards, Wave, WaveOf,
    WeightShard,
};
use weft::stages::host::HostCpu;
use weft::stages::on_cpu::{
    AdapterWeights, CpuLayer, CpuPrepare, CpuScratch, CpuWeights, PlannedAdapter, RopeTable, Weights,
    drop_weights,
};
use weft::stages::place::{Assignment, Need, PlaceError, PlaceErrorKind, Prepare, Taken};
use weft::{
    Backend, Backends, Cpu, Engine, EngineOptions, KvArena, LayerSet, LoadOptions, ModelConfig, ModelId,
    ModelSource, Plugin, ShardOwner, ShardSpec, Signal, TickSet, Wake, add_systems, systems,
};

// --- The thread -----------------------------------------------------------------------------------------------------

/// Half of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Attention,
    Ffn,
}

/// What the thread is asked to do.
enum Order {
    /// Keep weights and a KV cache of a model.
    Open { model: Entity, config: Box<ModelConfig>, kv: Vec<KvArena> },
    /// Take the weights of a layer.
    Take { model: Entity, layer: usize, weights: Box<Weights> },
    /// Drop the weights of a layer.
    Evict { model: Entity, layer: usize },
    /// Drop all of a model.
    Close { model: Entity },
    /// Compute half of a layer.
    Run(Box<Job>),
}

/// Half of a layer for the rows of a wave.
struct Job {
    model: Entity,
    layer: usize,
    half: Half,
    wave: Wave,
    ropes: Arc<[RopeTable]>,
    adapters: Vec<PlannedAdapter>,
    reply: SyncSender<Reply>,
}

/// A wave that comes back.
struct Reply {
    wave: Wave,
    /// False if the thread could not compute it.
    done: bool,
}

/// What the thread holds of a model.
struct Opened {
    config: Box<ModelConfig>,
    kv: Vec<KvArena>,
    layers: Vec<Option<Box<Weights>>>,
}

/// What tests watch the thread by, and what they do to it.
#[derive(Default)]
pub(crate) struct Watch {
    /// Layers whose attention, and whose feed-forward network, has been computed.
    computed: [AtomicUsize; 2],
    /// Feed-forward networks that the thread turns down before it computes the next.
    turn_down: AtomicUsize,
    /// The thread computes while it holds this lock.
    gate: Mutex<()>,
}

impl Watch {
    pub(crate) fn computed(&self) -> [usize; 2] {
        self.computed.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

fn work(cpu: Cpu, orders: Receiver<Order>, watch: &Watch, wake: &Signal) {
    let mut models = HashMap::<Entity, Opened>::new();
    let mut scratch = CpuScratch::default();
    for order in orders {
        match order {
            Order::Open { model, config, kv } => {
                let layers = (0..config.layers).map(|_| None).collect();
                models.insert(model, Opened { config, kv, layers });
            }
            Order::Take { model, layer, weights } => {
                if let Some(opened) = models.get_mut(&model) {
                    opened.layers[layer] = Some(weights);
                }
            }
            Order::Evict { model, layer } => {
                if let Some(opened) = models.get_mut(&model) {
                    opened.layers[layer] = None;
                }
            }
            Order::Close { model } => drop(models.remove(&model)),
            Order::Run(job) => {
                let _open = watch.gate.lock().unwrap_or_else(PoisonError::into_inner);
                let reply = run(*job, &cpu, &mut models, &mut scratch, watch);
                // Nobody takes a wave back that was abandoned.
                let _ = reply.0.send(reply.1);
                wake.notify();
            }
        }
    }
}

fn run(
    job: Job,
    cpu: &Cpu,
    models: &mut HashMap<Entity, Opened>,
    scratch: &mut CpuScratch,
    watch: &Watch,
) -> (SyncSender<Reply>, Reply) {
    let Job { model, layer, half, mut wave, ropes, adapters, reply } = job;
    let mut compute = || {
        let Opened { config, kv, layers } = models.get_mut(&model)?;
        let weights = layers[layer].as_deref()?;
        let layer = CpuLayer { cpu, config, weights, ropes: &ropes, adapters: &adapters, index: layer };
        match half {
            Half::Attention => {
                scratch.turn(&ropes, &wave.positions);
                layer.attend(&mut wave, scratch, kv).then_some(())?;
            }
            Half::Ffn => {
                let less = |count: usize| count.checked_sub(1);
                let turned_down =
                    watch.turn_down.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
                (!turned_down && layer.feed_forward(&mut wave, scratch)).then_some(())?;
            }
        }
        watch.computed[half as usize].fetch_add(1, Ordering::Relaxed);
        Some(())
    };
    let done = compute().is_some();
    (reply, Reply { wave, done })
}

// --- The backend ----------------------------------------------------------------------------------------------------

/// Adds the backend: its place, its thread and its systems.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadPlugin {
    /// Takes the last half of a model's layers at most, unless it has to take all.
    pub(crate) half: bool,
}

impl Plugin for ThreadPlugin {
    fn build(&self, world: &mut World) {
        let (orders, receiver) = channel();
        let (watch, wake) = (Arc::new(Watch::default()), Wake::of(world));
        // The tiles of weights are laid out for these kernels.
        let cpu = Cpu { kernels: HostCpu::of(world).kernels, threads: 1 };
        let watched = Arc::clone(&watch);
        // Ends when the world does, and with it all senders.
        std::thread::spawn(move || work(cpu, receiver, &watched, &wake));
        let place = Backends::register(world, ThreadBackend);
        world.insert_resource(Worker { place, orders, watch, half: self.half, refuses: false });
        add_systems(world, TickSet::Load, hand_over.after(systems::demand_layers));
        add_systems(world, LayerSet::Attention, send_or_take(Half::Attention));
        add_systems(world, LayerSet::Ffn, send_or_take(Half::Ffn));
    }
}

/// The thread, as the world knows it.
#[derive(Resource)]
pub(crate) struct Worker {
    pub(crate) place: Place,
    orders: Sender<Order>,
    pub(crate) watch: Arc<Watch>,
    half: bool,
    /// True if it refuses layers.
    pub(crate) refuses: bool,
}

impl Worker {
    fn order(&self, order: Order) {
        self.orders.send(order).expect("the thread lives as long as the world");
    }
}

/// Says that the thread holds a model. A component of the model.
#[derive(Component)]
struct Open {
    model: Entity,
    orders: Sender<Order>,
    /// Rotary frequencies, as soon as the model's factors are there.
    ropes: Option<Arc<[RopeTable]>>,
}

/// However the model goes, the thread drops it.
impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Close { model: self.model });
    }
}

/// Where a wave comes back, while it is with the thread. A component of the wave.
#[derive(Component, Default)]
struct Away(Option<Mutex<Receiver<Reply>>>);

/// Why it refuses.
#[derive(Debug)]
pub(crate) struct Refused(&'static str);

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

struct ThreadBackend(Place);

impl ThreadBackend {
    fn holds(&self, world: &World, layer: Entity) -> bool {
        world.get::<HeldBy>(layer).is_some_and(|held| held.0 == self.0)
    }
}

fn layers_of(world: &World, model: Entity) -> Vec<Entity> {
    world.get::<Layers>(model).map_or_else(Vec::new, |layers| layers.entities().to_vec())
}

/// Rotary frequencies of a model; `None` until its factors have arrived, which the CPU reads for every place.
fn ropes(world: &World, model: Entity) -> Option<Arc<[RopeTable]>> {
    let shards = world.get::<Shards>(model).map_or(&[][..], Shards::entities);
    let vector = |role| {
        let of_role = |shard: &&Entity| world.get::<WeightShard>(**shard).is_some_and(|s| s.role == role);
        world.get::<CpuWeights>(*shards.iter().find(of_role)?)?.0.vector()
    };
    let config = world.get::<ModelConfig>(model)?;
    let tables = config.ropes.iter().map(|rope| match rope.factors.role() {
        Some(role) => Some(RopeTable::new(rope, Some(vector(role)?))),
        None => Some(RopeTable::new(rope, None)),
    });
    tables.collect()
}

impl Backend for ThreadBackend {
    fn name(&self, _: &World) -> String {
        "a thread".to_owned()
    }

    fn takes_ends(&self) -> bool {
        false
    }

    fn is_asynchronous(&self) -> bool {
        true
    }

    fn fits(&self, _: &World, _: &Assignment<'_>) -> Result<Need, PlaceError> {
        Ok(Need::default())
    }

    fn prepare(&self, world: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError> {
        let (worker, mut layers) = (world.resource::<Worker>(), wanted.layers.clone());
        if worker.refuses && !layers.is_empty() {
            return Err(PlaceError::new(PlaceErrorKind::Memory, Refused("the thread takes no more")));
        }
        if wanted.ends_with(&layers, (false, false)) != (false, false) {
            return Err(PlaceError::new(PlaceErrorKind::Model, Refused("the thread computes layers only")));
        }
        if worker.half && !wanted.all {
            layers.start += layers.len().div_ceil(2);
        }
        if !layers.is_empty() && world.get::<Open>(wanted.model).is_none() {
            let (model, orders) = (wanted.model, worker.orders.clone());
            let kv = wanted.kv_arenas().map_err(|error| PlaceError::new(PlaceErrorKind::Memory, error))?;
            worker.order(Order::Open { model, config: Box::new(wanted.config.clone()), kv });
            world.entity_mut(model).insert(Open { model, orders, ropes: None });
        }
        Ok(Taken { layers, limits: wanted.limits })
    }

    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>> {
        let ShardOwner::Layer(index) = shard.owner else { return None };
        let kernels = HostCpu::of(world).kernels;
        let layer = *world.get::<Layers>(model)?.entities().get(index)?;
        self.holds(world, layer).then(|| Arc::new(CpuPrepare { kernels }) as Arc<dyn Prepare>)
    }

    fn evict(&self, world: &mut World, model: Entity, layer: usize) {
        drop_weights(world, model, layer);
        world.resource::<Worker>().order(Order::Evict { model, layer });
    }

    fn release_layer(&self, world: &mut World, model: Entity, layer: usize) {
        self.evict(world, model, layer);
        let layers = layers_of(world, model);
        let others =
            layers.iter().enumerate().any(|(index, entity)| index != layer && self.holds(world, *entity));
        if !others {
            world.entity_mut(model).remove::<Open>();
        }
    }

    fn release(&self, world: &mut World, model: Entity) {
        for (index, layer) in layers_of(world, model).into_iter().enumerate() {
            if self.holds(world, layer) {
                self.evict(world, model, index);
            }
        }
        world.entity_mut(model).remove::<Open>();
    }

    fn enter(&self, world: &mut World, wave: Entity) -> bool {
        let Some(WaveOf(model)) = world.get(wave) else { return false };
        let model = *model;
        if world.get::<Open>(model).is_some_and(|open| open.ropes.is_none()) {
            let ropes = ropes(world, model);
            world.get_mut::<Open>(model).expect("it is open").ropes = ropes;
        }
        let ready = world.get::<Open>(model).is_some_and(|open| open.ropes.is_some());
        if ready {
            world.entity_mut(wave).insert(Away(None));
            world.get_mut::<Wave>(wave).expect("a wave").place = Some(self.0);
        }
        ready
    }

    fn leave(&self, world: &mut World, wave: Entity) -> bool {
        let home = world.get::<Away>(wave).is_none_or(|away| away.0.is_none());
        if home {
            world.get_mut::<Wave>(wave).expect("a wave").place = None;
        }
        home
    }

    fn abandon(&self, world: &mut World, wave: Entity) {
        // What comes back finds nobody to take it.
        world.entity_mut(wave).remove::<Away>();
        world.get_mut::<Wave>(wave).expect("a wave").place = None;
    }
}

/// Hands the weights of layers that have arrived to the thread.
fn hand_over(
    worker: Res<'_, Worker>,
    layers: Query<'_, '_, (&LayerIndex, &LayerOf, &Shards, &HeldBy), Added<Resident>>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights)>,
) {
    for (index, of, entities, _) in layers.iter().filter(|(.., held)| held.0 == worker.place) {
        let weights = shards.iter_many(entities.entities()).matched().collect();
        worker.order(Order::Take { model: of.0, layer: index.0, weights: Box::new(weights) });
    }
}

/// Sends the wave of the current layer to the thread, or takes it back. Never waits.
#[expect(clippy::type_complexity, reason = "the parameters of a system")]
fn send_or_take(
    half: Half,
) -> impl FnMut(
    ResMut<'_, CurrentLayer>,
    Res<'_, Worker>,
    Query<'_, '_, (&Open, Option<&Adapters>)>,
    Query<'_, '_, &AdapterWeights>,
    Query<'_, '_, (&mut Wave, &mut Away)>,
) {
    move |mut current, worker, models, adapters, mut waves| {
        if current.place != worker.place || current.attended != (half == Half::Ffn) {
            return;
        }
        let (Ok((open, listed)), Ok((mut wave, mut away))) =
            (models.get(current.model), waves.get_mut(current.wave))
        else {
            return;
        };
        if let Some(replies) = &mut away.0 {
            match replies.get_mut().expect("one owner").try_recv() {
                Ok(reply) => {
                    let at = wave.at;
                    *wave = Wave { at, ..reply.wave };
                    away.0 = None;
                    if reply.done && half == Half::Attention {
                        current.attended = true;
                        return;
                    } else if reply.done {
                        current.computed = true;
                        return;
                    }
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => panic!("the thread is gone"),
            }
        }
        // The wave that stays says where the rows are.
        let stand_in = Wave { at: wave.at, turn: wave.turn, place: wave.place, ..Wave::default() };
        let wave = std::mem::replace(&mut *wave, stand_in);
        let used = listed.map_or(&[][..], Adapters::entities).iter().filter(|_| !wave.adapters.is_empty());
        let planned = used.filter_map(|adapter| {
            let matrices = Arc::clone(&adapters.get(*adapter).ok()?.0);
            Some(PlannedAdapter { adapter: *adapter, matrices })
        });
        let (reply, replies) = sync_channel(1);
        worker.order(Order::Run(Box::new(Job {
            model: current.model,
            layer: current.index,
            half,
            ropes: open.ropes.clone().expect("a wave enters when they are there"),
            adapters: planned.collect(),
            wave,
            reply,
        })));
        away.0 = Some(Mutex::new(replies));
    }
}

// --- For tests ------------------------------------------------------------------------------------------------------

/// An engine with the backend.
pub(crate) fn engine(half: bool) -> Engine {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    engine.add_plugin(&ThreadPlugin { half });
    engine
}

/// An engine with the backend and one model, whose layers are all on the thread, or the last half of them.
pub(crate) fn on_thread(source: impl Into<ModelSource>, half: bool) -> (Engine, ModelId) {
    let mut engine = engine(half);
    let model = engine.load(source, &LoadOptions::default()).unwrap();
    engine.wait_loaded(model).unwrap();
    let held = held(&engine, model);
    let here = engine.world().resource::<Worker>().place;
    let kept = if half { held.len().div_ceil(2) } else { 0 };
    assert!(held.iter().enumerate().all(|(index, place)| (*place == here) == (index >= kept)), "{held:?}");
    (engine, model)
}

/// The place of each layer.
pub(crate) fn held(engine: &Engine, model: ModelId) -> Vec<Place> {
    let layers = engine.world().get::<Layers>(model.0).unwrap().entities();
    layers.iter().map(|layer| engine.world().get::<HeldBy>(*layer).unwrap().0).collect()
}

pub(crate) fn watch(engine: &Engine) -> Arc<Watch> {
    Arc::clone(&engine.world().resource::<Worker>().watch)
}
