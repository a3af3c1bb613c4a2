//! Runs that are cached without ever having had a session: adding and growing them.

use super::tree::{PrefixTree, chain, index, recache, tree_of, uncache, unindex};
use bevy_ecs::prelude::*;
use weft_components::{KvRun, RunIn, RunOf};

/// Returns true if a page of the classes that are `present` fits into the cache's budget beside what is cached.
pub(super) fn fits_cache(world: &World, model: Entity, present: &[bool]) -> bool {
    let Some(tree) = world.get::<PrefixTree>(model) else { return false };
    let bytes = tree.page_bytes.iter().zip(present).filter(|(_, present)| **present);
    tree.cached_bytes + bytes.map(|(bytes, _)| bytes).sum::<u64>() <= tree.budget
}

/// Spawns a run without tokens and holders that continues `parent`, from position `start` on.
pub(super) fn cache_run(world: &mut World, model: Entity, parent: Option<Entity>, start: usize) -> Entity {
    let mut tree = world.get_mut::<PrefixTree>(model);
    let (used, classes) = tree.as_mut().map_or((0, 0), |tree| (tree.now(), tree.page_bytes.len()));
    let data = KvRun { start, used, pages: vec![Vec::new(); classes], ..KvRun::default() };
    let run = world.spawn((data, RunIn(model))).id();
    if let Some(parent) = parent {
        world.entity_mut(run).insert(RunOf(parent));
        // With a child it is not the next to be dropped.
        let used = world.get::<KvRun>(parent).map_or(0, |data| data.used);
        if let Some(mut tree) = tree_of(world, parent) {
            tree.cached.remove(&(used, parent));
        }
    }
    recache(world, run);
    run
}

/// Appends the tokens of a page, and its pages by class, to a run without children and holders.
pub(super) fn grow_cached(world: &mut World, run: Entity, tokens: &[u32], pages: Vec<Option<Entity>>) {
    uncache(world, run);
    unindex(world, run);
    if let Some(mut data) = world.get_mut::<KvRun>(run) {
        data.tokens.extend_from_slice(tokens);
        data.settled = data.tokens.len();
        data.pages.iter_mut().zip(pages).for_each(|(class, page)| class.push(page));
    }
    index(world, run);
    recache(world, run);
}

/// Makes a run, and those before it, the most recently used of the runs that nobody holds.
pub fn touch(world: &mut World, run: Entity) {
    let runs: Vec<Entity> = chain(world, Some(run)).collect();
    for run in runs {
        let now = tree_of(world, run).map_or(0, |mut tree| tree.now());
        let Some(mut data) = world.get_mut::<KvRun>(run).filter(|data| data.holds == 0) else { return };
        let used = core::mem::replace(&mut data.used, now);
        if let Some(mut tree) = tree_of(world, run)
            && tree.cached.remove(&(used, run))
        {
            tree.cached.insert((now, run));
        }
    }
}
