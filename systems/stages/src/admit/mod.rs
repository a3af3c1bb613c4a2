//! Admission: composes the next wave of each model from its active sessions.
//!
//! Sessions that decode come first, with one row each. Prompts fill the rows that are left, in chunks and in a fair order
//! (see `queue`), and a share of the rows is reserved for them. Before a prompt's rows join, the session takes over what
//! is cached of its tokens (see [`crate::kv`]). A session without a page waits. If no session can advance, a session's
//! context is preempted and computed again later, never lost (see `room`). A text of an encoder is never split, because
//! its rows attend to each other. A session is finished only if the whole arena cannot hold it.

mod decode_cost;
mod join;
mod queue;
mod room;
#[cfg(test)]
mod tests;
mod wave_times;

pub use join::AdmitSession;
pub use queue::{SessionQueue, enqueue, resume_session};

use crate::fail::LoadFailed;
use bevy_ecs::entity::{EntityHashMap, EntityHashSet};
use bevy_ecs::prelude::*;
use core::time::Duration;
use decode_cost::{Drafted, Kind};
use join::{Admission, Joined, finish};
use room::{Pressure, preempt};
use weft_components::{
    AdaptedRows, AtLayer, FinishReason, ModelConfig, StepsAhead, TickWork, Wave, WaveKv, WaveLimits, WaveOf,
    Waves,
};

/// How waves are composed.
#[derive(Resource, Clone, Copy, Debug)]
pub struct AdmitOptions {
    /// Largest number of rows of a wave.
    pub max_rows: usize,
    /// How long a wave should take at most while sessions decode: prompts join with as many rows as earlier waves computed
    /// in this time. `None` for no limit but `max_rows`.
    pub wave_time: Option<Duration>,
    /// What a wave costs beside its rows, in rows: drafted tokens join as long as they pay. `None` for what is measured.
    pub wave_cost: Option<f64>,
    /// What becomes of the context of a session that is preempted because there are no pages.
    pub preempt: Preempt,
}

/// What becomes of the context of a preempted session. Its tokens are kept in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preempt {
    /// It is computed again.
    #[default]
    Recompute,
    /// Its whole pages are copied to host memory outside of the KV cache, and back later. Where that is not possible it is
    /// computed again: on GPUs, with an adapter, in private sessions, and beyond the budget.
    Swap {
        /// Most bytes of all sessions together.
        bytes: u64,
    },
}

impl Default for AdmitOptions {
    fn default() -> Self {
        Self { max_rows: 512, wave_time: None, wave_cost: None, preempt: Preempt::default() }
    }
}

impl AdmitOptions {
    /// The options of a world.
    pub fn of(world: &World) -> Self {
        world.get_resource::<Self>().copied().unwrap_or_default()
    }
}

/// Divisor of a wave's rows: this share is reserved for prompts while sessions decode.
const PROMPT_SHARE: usize = 4;
/// Fewest rows of prompts in a wave, however short its time.
const LEAST_PROMPT_ROWS: usize = 16;

/// The order in which sessions are admitted. Replaces the model's own order. A component of the model that a system in the
/// set `Admit`, before [`admit`], writes. Of the sessions that decode, and then of those that prefill, the first in this
/// list join a wave first. Sessions that are not in it wait.
#[derive(Component, Clone, Debug, Default)]
pub struct AdmissionOrder(pub Vec<Entity>);

/// Lists that a wave is composed from, kept for their memory: places in the queue.
#[derive(Debug, Default)]
pub struct AdmitScratch {
    waves: Vec<(Entity, Entity)>,
    standing: EntityHashSet,
    decoding: Vec<usize>,
    prompts: Vec<usize>,
    ranks: Ranks,
}

/// Fills idle waves. The next wave of a model is filled when the one before has started. Runs in the set `Admit`.
pub fn admit(
    world: &mut World,
    waves: &mut QueryState<(Entity, &Wave, &WaveOf)>,
    failed: &mut QueryState<Entity, With<LoadFailed>>,
    sessions: &mut QueryState<AdmitSession>,
    mut scratch: Local<'_, AdmitScratch>,
) {
    let AdmitScratch { waves: idle, standing, .. } = &mut *scratch;
    idle.clear();
    standing.clear();
    for (entity, wave, of) in waves.iter(world) {
        match wave.at {
            AtLayer::Idle => idle.push((entity, of.0)),
            AtLayer::Embed => drop(standing.insert(of.0)),
            _ => {}
        }
    }
    let failed: Vec<Entity> = failed.iter(world).collect();
    for model in failed {
        end_all(world, sessions, model);
    }
    for at in 0..scratch.waves.len() {
        let (wave, model) = scratch.waves[at];
        if scratch.standing.contains(&model) || world.get::<LoadFailed>(model).is_some() {
            continue;
        }
        let Some(mut queue) =
            world.get_mut::<SessionQueue>(model).map(|mut queue| core::mem::take(&mut *queue))
        else {
            continue;
        };
        if !queue.is_empty() {
            queue.settle(world);
        }
        if !queue.is_empty() && compose(world, &mut queue, sessions, (wave, model), &mut scratch) {
            scratch.standing.insert(model);
        }
        if let Some(mut place) = world.get_mut::<SessionQueue>(model) {
            *place = queue;
        }
    }
}

/// Ends the requests of a model whose load has failed.
fn end_all(world: &mut World, sessions: &mut QueryState<AdmitSession>, model: Entity) {
    let Some(mut queue) = world.get_mut::<SessionQueue>(model) else { return };
    for queued in queue.take() {
        finish(world, sessions, queued.session, FinishReason::ModelFailed);
    }
}

/// Fills a wave of a model. Returns true if it has rows.
fn compose(
    world: &mut World,
    queue: &mut SessionQueue,
    sessions: &mut QueryState<AdmitSession>,
    (entity, model): (Entity, Entity),
    scratch: &mut AdmitScratch,
) -> bool {
    let ahead = world.get::<StepsAhead>(model).map_or(0, |ahead| ahead.0);
    if queue.times.are_enough(ahead) {
        return false;
    }
    let options = AdmitOptions::of(world);
    let (Some(config), Some(limits)) =
        (world.get::<ModelConfig>(model), world.get::<WaveLimits>(model).copied())
    else {
        return false;
    };
    let (causal, classes, vocabulary) = (config.causal, config.kv_classes.len(), config.vocabulary);
    let most = options.max_rows.clamp(1, limits.rows);
    let abreast = world.get::<Waves>(model).map_or(1, |waves| waves.entities().len().max(1));
    let mut wave =
        world.get_mut::<Wave>(entity).map(|mut wave| core::mem::take(&mut *wave)).unwrap_or_default();
    wave.kv.resize_with(classes, WaveKv::default);
    if let Some(config) = world.get::<ModelConfig>(model) {
        for (index, class) in config.kv_classes.iter().enumerate() {
            if let Some(of) = class.recent_of.and_then(|of| wave.kv.get_mut(of)) {
                of.recent = Some(index);
            }
        }
    }
    let now = world.get_resource::<TickWork>().map_or(0, |work| work.0);
    let mut admission = Admission {
        model,
        vocabulary,
        sessions,
        number: queue.waves,
        room: 0,
        drafted: Drafted::default(),
        level: None,
        places: 0,
        logits: limits.logit_rows,
        pages: limits.pages,
        ahead,
        whole: (!causal).then_some(most),
        now,
        wave,
        pressure: Pressure::default(),
        starved: None,
        left_out: false,
        kind: Kind::Plain,
    };
    let in_flight = list(world, &mut admission, queue, scratch);
    let AdmitScratch { decoding, prompts, .. } = scratch;
    if admission.drafted.any() {
        let others = decoding.len() < queue.sessions.len();
        let cost = queue.times.cost(options.wave_cost, ahead > 0);
        admission.level = cost.level(&admission.drafted, others, ahead);
    }
    // Each wave takes its share of the sessions, so that every place has work at once.
    admission.places = (decoding.len() + prompts.len()).div_ceil(abreast);
    let [decode_rows, prompt_rows] = rounds(most, queue, !decoding.is_empty(), !prompts.is_empty());
    admission.room = decode_rows;
    let (mut changed, mut prompted) = (0, 0);
    let mut turn = |admission: &mut Admission<'_>,
                    queue: &mut SessionQueue,
                    world: &mut World,
                    place: usize,
                    prompt: bool| {
        let session = queue.sessions[place].session;
        match admission.join(world, session) {
            Joined::Rows(rows) => {
                let rows = if prompt { rows } else { 0 };
                prompted += rows;
                queue.joined(world, place, rows);
            }
            Joined::Waits => {}
            Joined::Never(reason) => {
                admission.finish(world, session, reason);
                changed += 1;
            }
        }
    };
    let mut next = None;
    for place in decoding.iter().copied() {
        if admission.room == 0 || admission.places == 0 {
            next.get_or_insert(place);
            break;
        }
        turn(&mut admission, queue, world, place, false);
        if admission.left_out {
            next.get_or_insert(place);
        }
    }
    if let Some(next) = next {
        queue.first = next;
    }
    admission.room += prompt_rows;
    if let (Some(time), false) = (options.wave_time, decoding.is_empty()) {
        let rows = queue.times.rows_in(time, decoding.len() + LEAST_PROMPT_ROWS);
        admission.room = admission.room.min(rows.saturating_sub(admission.wave.rows()));
    }
    for place in prompts.iter().copied() {
        if admission.room == 0 || admission.places == 0 {
            break;
        }
        turn(&mut admission, queue, world, place, true);
    }
    let Admission { mut wave, starved, kind, .. } = admission;
    let filled = wave.rows() > 0;
    if filled {
        wave.at = AtLayer::Embed;
        group_adapted(&mut wave);
        wave.turn = queue.waves;
        queue.composed(wave.rows(), prompted, kind);
        changed += 1;
    }
    if let Some(mut place) = world.get_mut::<Wave>(entity) {
        *place = wave;
    }
    if let Some(starved) = starved.filter(|_| !filled && !in_flight) {
        if !preempt(world, queue, starved) {
            finish(world, sessions, starved, FinishReason::ContextFull);
        }
        changed += 1;
    }
    if let Some(mut work) = world.get_resource_mut::<TickWork>() {
        work.0 += changed;
    }
    filled
}

/// Lists the places in the queue of sessions with one row to compute, from the one whose turn it is on, and of those with
/// more, in their order. Returns true if rows of any session are in flight.
fn list(
    world: &mut World,
    admission: &mut Admission<'_>,
    queue: &SessionQueue,
    AdmitScratch { decoding, prompts, ranks, .. }: &mut AdmitScratch,
) -> bool {
    decoding.clear();
    prompts.clear();
    let order = world.get::<AdmissionOrder>(admission.model);
    let ranks = order.map(|order| ranks.of(queue, &order.0));
    let mut in_flight = false;
    for (place, queued) in queue.sessions.iter().enumerate() {
        let Some(waiting) = admission.look(world, queued.session) else { continue };
        in_flight |= waiting.in_flight;
        if ranks.is_some_and(|ranks| ranks[place].is_none()) {
            continue;
        }
        admission.pressure.count(queued.session, waiting.preempted, waiting.pages);
        match waiting.remaining {
            0 => {}
            1 => decoding.push(place),
            _ => prompts.push(place),
        }
    }
    match ranks {
        Some(ranks) => {
            decoding.sort_unstable_by_key(|place| ranks[*place]);
            prompts.sort_unstable_by_key(|place| ranks[*place]);
        }
        None => {
            let first = decoding.partition_point(|place| *place < queue.first);
            decoding.rotate_left(first);
            if prompts.len() > 1 {
                queue.order(world, prompts);
            }
        }
    }
    in_flight
}

/// The rows of the two rounds over the sessions: first those with a single row to compute, then the others. Rows that the
/// first round leaves go to the second.
fn rounds(rows: usize, queue: &mut SessionQueue, decode: bool, prompts: bool) -> [usize; 2] {
    if !prompts {
        return [rows, 0];
    }
    if rows == 1 {
        queue.decoded = decode && !queue.decoded;
        return if queue.decoded { [1, 0] } else { [0, 1] };
    }
    let prompts = (rows / PROMPT_SHARE).max(1);
    [rows - prompts, prompts]
}

/// Which place each session of a queue has in an [`AdmissionOrder`].
#[derive(Debug, Default)]
struct Ranks {
    /// Places in the queue.
    places: EntityHashMap<usize>,
    /// By place in the queue. `None` for sessions that the order does not name.
    ranks: Vec<Option<usize>>,
}

impl Ranks {
    /// An order may name sessions of other models, or a session twice: the first time counts.
    fn of(&mut self, queue: &SessionQueue, order: &[Entity]) -> &[Option<usize>] {
        self.places.clear();
        self.places.extend(queue.sessions().enumerate().map(|(place, session)| (session, place)));
        self.ranks.clear();
        self.ranks.resize(queue.len(), None);
        for (rank, session) in order.iter().enumerate() {
            // Each session is named once from here on.
            if let Some(place) = self.places.remove(session) {
                self.ranks[place] = Some(rank);
            }
        }
        &self.ranks
    }
}

/// Lists the rows of a wave that use adapters, grouped by adapter.
fn group_adapted(wave: &mut Wave) {
    let Wave { spans, adapters, .. } = wave;
    for first in spans.iter().filter_map(|span| span.adapter) {
        if adapters.groups.iter().any(|group| group.adapter == first.adapter) {
            continue;
        }
        let start = adapters.rows.len();
        for span in spans.iter() {
            let Some(used) = span.adapter.filter(|used| used.adapter == first.adapter) else { continue };
            adapters.rows.extend(span.rows.clone().map(|row| row as u32));
            adapters.scales.extend(span.rows.clone().map(|_| used.scale));
        }
        let places = start..adapters.rows.len();
        adapters.groups.push(AdaptedRows { adapter: first.adapter, places });
    }
}
