//! Random opens, forks, requests, cancels, pauses, cuts, closes, evictions, preemptions and restarts: at the end, and on
//! the way, every page is free or in one run, and what runs and tables say agrees.

use crate::common::requests::asks;
use crate::common::{golden, greedy, told};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use weft::bevy_ecs::prelude::*;
use weft::components::{
    BlockTable, ChildRuns, ContextCursor, KvPage, KvPools, KvRun, LeafRun, LeafSessions, PageOf, RunOf,
};
use weft::stages::kv::PrefixTree;
use weft::{
    Engine, EngineOptions, GenerateOptions, KvFormat, LoadOptions, ModelId, PAGE, Prompt, SessionId,
    SessionOptions,
};

/// A generator of pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Checks the accounts of pages and runs.
pub(crate) fn check(engine: &mut Engine, model: ModelId) {
    let world = engine.world_mut();
    let mut slots = HashSet::new();
    let mut pages = 0;
    for (page, of) in world.query::<(&KvPage, &PageOf)>().iter(world) {
        assert!(slots.insert((page.class, page.slot)), "a slot has two pages");
        assert!(world.get::<KvRun>(of.0).is_some(), "a page has no run");
        pages += 1;
    }
    let pools = world.get::<KvPools>(model.0).unwrap();
    assert_eq!(pools.free() + pages, pools.capacity(), "pages are lost");
    let mut cached = 0;
    let mut named = 0;
    for (entity, run, parent) in world.query::<(Entity, &KvRun, Option<&RunOf>)>().iter(world) {
        let before = parent.map_or(0, |parent| world.get::<KvRun>(parent.0).unwrap().end());
        assert_eq!(run.start, before, "a run does not continue its parent");
        let children = world.get::<ChildRuns>(entity).map_or(&[][..], ChildRuns::entities);
        let held = children.iter().filter(|child| world.get::<KvRun>(**child).unwrap().holds > 0).count();
        let sessions = world.get::<LeafSessions>(entity).map_or(0, |sessions| sessions.entities().len());
        assert_eq!(run.holds as usize, held + sessions, "holders are miscounted");
        if !children.is_empty() {
            assert!(run.tokens.len().is_multiple_of(PAGE), "a run splits within a page");
        }
        named += run.held_pages();
        cached += if run.holds == 0 { run.held_pages() } else { 0 };
        for class in &run.pages {
            assert!(class.len() >= run.tokens.len().div_ceil(PAGE), "tokens without pages");
        }
    }
    assert_eq!(named, pages, "runs and pages disagree");
    let tree = world.get::<PrefixTree>(model.0).unwrap();
    assert_eq!(tree.cached_bytes() == 0, cached == 0, "the cache is miscounted");
    let mut chains: HashMap<Entity, Vec<u32>> = HashMap::new();
    for (session, table, leaf, cursor) in
        world.query::<(Entity, &BlockTable, Option<&LeafRun>, &ContextCursor)>().iter(world)
    {
        let mut next = leaf.map(|leaf| leaf.0);
        let mut chain = Vec::new();
        while let Some(run) = next {
            let class = &world.get::<KvRun>(run).unwrap().pages[0];
            chain.extend(class.iter().rev().map(|page| world.get::<KvPage>(page.unwrap()).unwrap().slot));
            next = world.get::<RunOf>(run).map(|parent| parent.0);
        }
        chain.reverse();
        let table = table.0.first().map_or(&[][..], |table| &table[..]);
        assert!(chain.starts_with(table), "a table differs from its runs: {table:?} {chain:?} of {session}");
        assert!(table.len() * PAGE >= cursor.computed, "computed tokens without pages");
        chains.insert(session, chain);
    }
}

/// The options of the engine that sessions come and go in.
pub(crate) fn options() -> EngineOptions {
    EngineOptions { max_rows: Some(48), threads: 1, ..EngineOptions::default() }
}

/// Runs this many random steps. At the end every session says what the model says after its tokens.
pub(crate) fn run(engine: Engine, steps: usize, seed: u64) {
    run_in(engine, KvFormat::F16, steps, seed);
}

/// The same with a format of the KV cache.
pub(crate) fn run_in(mut engine: Engine, kv_format: KvFormat, steps: usize, seed: u64) {
    const MOST: usize = 12;
    let mut random = Random(seed);
    let load = |budget| LoadOptions {
        kv_tokens: Some(16 * PAGE),
        kv_format,
        prefix_cache: budget,
        ..LoadOptions::default()
    };
    let file = golden("tiny/tiny-llama.gguf");
    let mut model = engine.load(file.as_path(), &load(None)).unwrap();
    engine.wait_loaded(model).unwrap();
    let prompts: Vec<Vec<u32>> = (0..6)
        .map(|n: usize| {
            (0..40 + 30 * n).map(|at| if at < 20 + 12 * n { 5 } else { (at * n) as u32 % 300 }).collect()
        })
        .collect();
    let mut sessions: Vec<SessionId> = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    for step in 0..steps {
        match random.below(100) {
            0..10 if sessions.len() < MOST => {
                let prompt = &prompts[random.below(prompts.len())];
                let length = 1 + random.below(prompt.len());
                sessions.push(told(&mut engine, model, &prompt[..length]));
            }
            10..14 if !sessions.is_empty() && sessions.len() < MOST => {
                let from = sessions[random.below(sessions.len())];
                sessions.push(engine.fork(from).unwrap());
            }
            14..30 if !sessions.is_empty() => {
                let session = sessions[random.below(sessions.len())];
                let options = GenerateOptions {
                    max_tokens: Some(random.below(40)),
                    ignore_end: true,
                    prefill_chunk: random.below(3) * 13,
                    ..GenerateOptions::default()
                };
                // Refused if it is busy or its context is full.
                let _ = engine.generate(session, &options);
            }
            30..34 if !sessions.is_empty() => {
                let _ = engine.cancel(sessions[random.below(sessions.len())]);
            }
            34..38 if !sessions.is_empty() => {
                let session = sessions[random.below(sessions.len())];
                let cut = random.below(engine.history(session).unwrap().len() + 1);
                let tokens = engine.history(session).unwrap()[..cut].to_vec();
                let _ = engine.set_context(session, tokens);
            }
            38..42 if !sessions.is_empty() => {
                let session = sessions[random.below(sessions.len())];
                let _ = engine.append(session, Prompt::Tokens(vec![7; 1 + random.below(30)]));
            }
            42..46 if !sessions.is_empty() => {
                let session = sessions[random.below(sessions.len())];
                if random.below(2) == 0 { engine.pause(session) } else { engine.resume(session) }.unwrap();
            }
            46..54 if !sessions.is_empty() => {
                let session = sessions.swap_remove(random.below(sessions.len()));
                engine.close(session);
            }
            54 if random.below(40) == 0 => engine.clear_prefix_cache(model).unwrap(),
            55 if random.below(400) == 0 => {
                // A restart: the model is loaded anew, with or without a cache.
                engine.unload(model);
                sessions.clear();
                let budget = [None, Some(0), Some(20_000)][random.below(3)];
                model = engine.load(file.as_path(), &load(budget)).unwrap();
                engine.wait_loaded(model).unwrap();
            }
            56..60 if !sessions.is_empty() => {
                let session = sessions[random.below(sessions.len())];
                let bytes = engine.snapshot(session, random.below(2) == 0).unwrap();
                engine.close(session);
                sessions.retain(|other| *other != session);
                sessions.push(engine.restore(model, &bytes).unwrap());
            }
            // Refused on a GPU; loading also while rows are in flight.
            60 if random.below(20) == 0 => drop(engine.save_prefixes(model, folder.path(), Some(200_000))),
            61 if random.below(10) == 0 => drop(engine.load_prefixes(model, folder.path())),
            // The wave stops after one layer.
            60..75 => drop(engine.tick_for(Duration::ZERO)),
            _ => drop(engine.tick()),
        }
        if step % 64 == 0 {
            check(&mut engine, model);
        }
    }
    for session in &sessions {
        engine.resume(*session).unwrap();
    }
    for session in sessions {
        if engine.phase(session).unwrap().is_active() {
            engine.wait(session).unwrap();
        }
        check(&mut engine, model);
        let whole = engine.history(session).unwrap().to_vec();
        if (1..16 * PAGE - 6).contains(&whole.len()) {
            engine.generate(session, &asks(6)).unwrap();
            engine.wait(session).unwrap();
            let said = engine.output(session).unwrap().tokens.clone();
            assert_eq!(said, greedy(&mut engine, model, &whole, 6), "after {} tokens", whole.len());
        }
        engine.close(session);
    }
    check(&mut engine, model);
    engine.clear_prefix_cache(model).unwrap();
    let pools = engine.world().get::<KvPools>(model.0).unwrap();
    assert_eq!(pools.free(), pools.capacity(), "pages are lost");
    let _ = engine.open_session(model, &SessionOptions::default()).unwrap();
}

/// With `WEFT_SOAK=1`, a million steps; otherwise a fiftieth of them.
#[test]
fn every_page_is_accounted_for() {
    let full = std::env::var_os("WEFT_SOAK").is_some_and(|value| value == "1");
    let steps = if full { 250_000 } else { 5_000 };
    for seed in 1..=4 {
        run(Engine::new(&options()).unwrap(), steps, seed * 0x9E37_79B9);
    }
}
