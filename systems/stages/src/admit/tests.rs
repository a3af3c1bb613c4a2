//! Tests of which waves are composed, on a device that computes nothing: a test takes waves away and says when they are
//! back.

use super::wave_times::MOST_LARGE;
use super::*;
use crate::load::{abandon, place_again, rewind_sessions};
use crate::on_gpu::testing::{world, world_of};
use crate::place::Backends;
use crate::sample::{SessionSampler, end_request};
use weft_components::{
    BlockTable, ContextCursor, Output, Phase, Request, SamplerSettings, SessionEvent, SessionEventKind,
    SessionOf, TokenHistory, TurnStarts, WhenFull,
};

/// Waves that may be in flight on a GPU: one more than the steps that a session may run ahead.
const MOST: usize = 3;

/// Starts a request of a new session with these tokens.
fn ask(world: &mut World, model: Entity, tokens: Vec<u32>, request: Request) -> Entity {
    let vocabulary = world.get::<ModelConfig>(model).unwrap().vocabulary;
    let sampler = SessionSampler::new(&SamplerSettings::default(), vocabulary, &[], &[], None).unwrap();
    let cursor = ContextCursor { limit: 128, ..ContextCursor::default() };
    let session = world.spawn((
        (SessionOf(model), TokenHistory(tokens), BlockTable::default(), Output::default()),
        (cursor, Phase::Waiting, sampler),
    ));
    let session = session.id();
    world.entity_mut(session).insert(request);
    session
}

/// Requests in chunks of `chunk` rows, 0 for no limit.
fn in_chunks(chunk: usize) -> Request {
    Request { prefill_chunk: chunk, ..Request::default() }
}

fn start() -> (World, Entity) {
    let (mut world, model) = world();
    world.add_observer(enqueue);
    (world, model)
}

fn the_wave(world: &mut World) -> Entity {
    world.query_filtered::<Entity, With<Wave>>().single(world).unwrap()
}

/// Runs admission. Returns the number of the wave and its sessions, if there is one, which is on the device from then on.
fn compose_one(world: &mut World) -> Option<(u64, Vec<Entity>)> {
    world.run_system_cached(admit).unwrap();
    let entity = the_wave(world);
    let mut wave = world.get_mut::<Wave>(entity).unwrap();
    (wave.at == AtLayer::Embed).then(|| {
        let sessions = wave.spans.iter().map(|span| span.session).collect();
        let turn = wave.turn;
        wave.clear();
        (turn, sessions)
    })
}

/// The numbers of the waves that are composed in 20 ticks.
fn composed(world: &mut World) -> Vec<u64> {
    (0..20).filter_map(|_| compose_one(world).map(|(turn, _)| turn)).collect()
}

/// Notes that the results of a wave are back.
fn arrives(world: &mut World, model: Entity, wave: u64) {
    world.get_mut::<SessionQueue>(model).unwrap().times.stop(wave);
}

/// With more, sessions that are not in step would have waves of their own, and what arrives would wait for all of them.
#[test]
fn no_more_waves_are_composed_than_steps_may_be_in_flight() {
    let (mut world, model) = start();
    for _ in 0..2 {
        ask(&mut world, model, vec![1; 90], in_chunks(4));
    }
    assert_eq!(world.get::<StepsAhead>(model).unwrap().0 + 1, MOST);
    assert_eq!(composed(&mut world), [0, 1, 2]);
    arrives(&mut world, model, 0);
    assert_eq!(composed(&mut world), [3]);
}

/// A prompt that arrives beside a long one waits for all waves in flight. The device has enough to do with two.
#[test]
fn no_more_than_two_waves_with_many_rows_of_prompts_are_in_flight() {
    // Waves of 256 rows of prompts are large, waves of 255 are not.
    for (rows, wanted) in [(256, MOST_LARGE), (255, MOST)] {
        let (mut world, model) = world_of(4096);
        world.add_observer(enqueue);
        world.insert_resource(AdmitOptions { max_rows: rows, ..AdmitOptions::default() });
        for session in 0..20 {
            ask(&mut world, model, vec![session; 90], in_chunks(0));
        }
        let first = composed(&mut world);
        assert_eq!(first.len(), wanted, "of {rows} rows");
        arrives(&mut world, model, 0);
        assert_eq!(composed(&mut world), [first.len() as u64]);
    }
}

#[test]
fn a_tick_that_composes_nothing_takes_no_turn() {
    let (mut world, model) = start();
    world.insert_resource(AdmitOptions { max_rows: 1, ..AdmitOptions::default() });
    let prompt = ask(&mut world, model, vec![1; 90], in_chunks(0));
    for token in 2..9 {
        ask(&mut world, model, vec![token], in_chunks(0));
    }
    // Sessions with one row and the prompt take turns.
    let is_prompt = |wave: Option<(u64, Vec<Entity>)>| wave.map(|(_, sessions)| sessions == [prompt]);
    let waves: Vec<_> = (0..MOST).map(|_| is_prompt(compose_one(&mut world))).collect();
    assert_eq!(waves, [Some(false), Some(true), Some(false)]);
    // An odd number of ticks.
    assert!((0..3).all(|_| compose_one(&mut world).is_none()));
    arrives(&mut world, model, 0);
    assert_eq!(is_prompt(compose_one(&mut world)), Some(true));
}

#[test]
fn waves_of_a_request_that_was_cancelled_are_in_flight_all_the_same() {
    let (mut world, model) = start();
    let first = ask(&mut world, model, vec![1; 90], in_chunks(4));
    assert_eq!(composed(&mut world).len(), MOST);
    world.run_system_cached_with(end_request, (first, FinishReason::Cancelled)).unwrap();
    ask(&mut world, model, vec![2; 90], in_chunks(4));
    assert!(composed(&mut world).is_empty(), "the device is busy with what was cancelled");
    arrives(&mut world, model, 1);
    assert_eq!(composed(&mut world), [3, 4]);
}

#[test]
fn composing_resumes_after_a_wave_was_abandoned() {
    let (mut world, model) = start();
    ask(&mut world, model, vec![1; 90], in_chunks(4));
    for _ in 1..MOST {
        compose_one(&mut world).unwrap();
    }
    // This one is abandoned before it is on the device, as one is that a device has no memory for.
    world.run_system_cached(admit).unwrap();
    let (wave, backends) = (the_wave(&mut world), Backends::of(&world));
    assert_eq!(world.get::<Wave>(wave).unwrap().turn, 2);
    abandon(&mut world, &backends, wave);
    assert_eq!(composed(&mut world), [3]);
    // The same where a layer is evicted or moved: all sessions start over.
    rewind_sessions(&mut world, &backends, model, usize::MAX);
    assert_eq!(composed(&mut world), [4, 5, 6]);
}

#[test]
fn composing_resumes_after_a_device_was_lost() {
    let (mut world, model) = start();
    ask(&mut world, model, vec![1; 90], in_chunks(4));
    assert_eq!(composed(&mut world).len(), MOST);
    assert!(place_again(&mut world, model, true).unwrap());
    assert_eq!(composed(&mut world).len(), MOST);
}

#[test]
fn an_order_names_sessions_once_and_others_wait() {
    let (mut world, model) = start();
    let [a, b, c, prompt] = [vec![2], vec![3], vec![4], vec![5; 9]]
        .map(|tokens| ask(&mut world, model, tokens, Request::default()));
    let elsewhere = world.spawn_empty().id();
    world.entity_mut(model).insert(AdmissionOrder(vec![elsewhere, c, prompt, a, c, elsewhere, a]));
    assert_eq!(compose_one(&mut world).unwrap().1, [c, a, prompt], "those with one row come first");
    assert!(composed(&mut world).is_empty());
    world.entity_mut(model).remove::<AdmissionOrder>();
    assert_eq!(compose_one(&mut world).unwrap().1, [b]);
}

#[test]
fn a_request_that_follows_another_within_a_tick_is_a_new_arrival() {
    let (mut world, model) = start();
    let [a, b] = [2, 3].map(|token| ask(&mut world, model, vec![token], Request::default()));
    let queued = |world: &World| world.get::<SessionQueue>(model).unwrap().sessions().collect::<Vec<_>>();
    assert_eq!(queued(&world), [a, b]);
    world.run_system_cached_with(end_request, (a, FinishReason::Cancelled)).unwrap();
    *world.get_mut::<Phase>(a).unwrap() = Phase::Waiting;
    world.entity_mut(a).insert(Request::default());
    assert_eq!(queued(&world), [b, a]);
    // Sessions that have left may come again.
    for _ in 0..2 {
        world.run_system_cached_with(end_request, (b, FinishReason::Cancelled)).unwrap();
        compose_one(&mut world);
        assert_eq!(queued(&world), [a]);
        *world.get_mut::<Phase>(b).unwrap() = Phase::Waiting;
        world.entity_mut(b).insert(Request::default());
        assert_eq!(queued(&world), [a, b]);
    }
}

#[test]
fn a_full_context_without_turns_drops_its_oldest_half() {
    for turns in [None, Some(TurnStarts(vec![0, 40])), Some(TurnStarts::default())] {
        let (mut world, model) = start();
        let shifts = Request { when_full: WhenFull::Shift { keep: 9 }, ..Request::default() };
        // One token more than the context may have: the last one was chosen and is to be computed.
        let session = ask(&mut world, model, (0..129).collect(), shifts);
        let (start, dropped) = if turns == Some(TurnStarts(vec![0, 40])) { (40, 31) } else { (69, 60) };
        if let Some(turns) = turns {
            world.entity_mut(session).insert(turns);
        }
        assert_eq!(compose_one(&mut world), None);
        let rest: Vec<u32> = (0..9).chain(start..129).collect();
        assert_eq!(world.get::<TokenHistory>(session).unwrap().0, rest);
        let mut events = world.resource_mut::<Messages<SessionEvent>>();
        let kinds: Vec<_> = events.drain().map(|event| event.kind).collect();
        assert_eq!(kinds, [SessionEventKind::Shifted(dropped)]);
        assert_eq!(compose_one(&mut world).unwrap().1, [session]);
    }
}
