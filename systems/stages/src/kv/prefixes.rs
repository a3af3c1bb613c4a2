//! The prefix tree outside the cache: which whole pages of contexts it has, and adding pages to it that were computed
//! before.

use super::attach::seal_at;
use super::cached::{cache_run, fits_cache, grow_cached};
use super::tree::find;
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, ChildRuns, KvClass, KvPage, KvPools, KvRun, ModelConfig, PageOf, RunOf, Runs, Wave, Waves,
};
use weft_platform::PAGE;

/// The whole pages of a run of the prefix tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRun {
    /// Index of its parent in the list of runs. `None` at the beginning of contexts.
    pub parent: Option<usize>,
    /// Page number of its first page in its contexts.
    pub first: usize,
    /// Its tokens, [`PAGE`] for each page.
    pub tokens: Vec<u32>,
    /// Slots of its pages, by class and page number within the run. `None` for a page that has left its class's window.
    pub pages: Vec<Vec<Option<u32>>>,
    /// When it or a run after it was last used, on a clock that only orders events. The latest time if a session holds it.
    pub used: u64,
}

/// The runs of a model's prefix tree whose keys and values have been computed in all layers, parents before their
/// children. Runs of private sessions, runs that were computed with an adapter, and incomplete pages are left out.
pub fn sealed_runs(world: &World, model: Entity) -> Vec<SealedRun> {
    let waves = crate::related::<Waves>(world, model).into_iter();
    let in_flight = waves.filter_map(|wave| world.get::<Wave>(wave)).filter(|wave| wave.at != AtLayer::Idle);
    let in_flight = in_flight.map(|wave| wave.turn).min().unwrap_or(u64::MAX);
    let roots = world.get::<Runs>(model).into_iter().flat_map(Runs::entities);
    let mut next: Vec<(Entity, Option<usize>)> =
        roots.filter(|run| !world.entity(*run).contains::<RunOf>()).map(|run| (run, None)).collect();
    let mut runs: Vec<SealedRun> = Vec::new();
    while let Some((run, parent)) = next.pop() {
        let Some(data) = world.get::<KvRun>(run) else { continue };
        if data.private || data.adapter.is_some() {
            continue;
        }
        let computed = match data.wave.cmp(&in_flight) {
            core::cmp::Ordering::Less => data.tokens.len(),
            core::cmp::Ordering::Equal => data.settled,
            core::cmp::Ordering::Greater => 0,
        };
        let pages = computed / PAGE;
        if pages == 0 {
            continue;
        }
        if pages * PAGE == data.tokens.len() {
            next.extend(
                crate::related::<ChildRuns>(world, run).into_iter().map(|run| (run, Some(runs.len()))),
            );
        }
        let slot =
            |page: &Option<Entity>| page.and_then(|page| world.get::<KvPage>(page)).map(|page| page.slot);
        runs.push(SealedRun {
            parent,
            first: data.start / PAGE,
            tokens: data.tokens[..pages * PAGE].to_vec(),
            pages: data.pages.iter().map(|class| class.iter().take(pages).map(slot).collect()).collect(),
            used: if data.holds > 0 { u64::MAX } else { data.used },
        });
    }
    // A run is as recent as the runs that need it.
    for child in (0..runs.len()).rev() {
        if let Some(parent) = runs[child].parent {
            runs[parent].used = runs[parent].used.max(runs[child].used);
        }
    }
    runs
}

/// Which pages [`import_prefix`] may take. It drops nothing to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Free ones, as long as the cache stays within its budget.
    Budget,
    /// All free ones, because a session takes them over at once.
    Free,
}

/// What [`import_prefix`] has added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportedPrefix {
    /// Number of pages.
    pub pages: usize,
    /// The last run that has some of them.
    pub run: Option<Entity>,
}

/// Adds pages to a model's prefix tree that were computed before, as cached runs: those of the context `tokens` that the
/// tree does not have. `present` says for each page of the context, and for each class, whether there are keys and values;
/// others have left their windows. `write` is called for each page that is added, in order, with its number and its slots
/// by class. It writes keys and values to the slots, or returns false if it cannot; then this page and those after it are
/// not added.
///
/// As many pages are added as there is `room`. No wave of the model may be in flight, because rows in flight may be written to free slots.
pub fn import_prefix(
    world: &mut World,
    model: Entity,
    tokens: &[u32],
    present: &[Vec<bool>],
    room: Room,
    mut write: impl FnMut(&mut World, usize, &[Option<u32>]) -> bool,
) -> ImportedPrefix {
    let mut added = ImportedPrefix::default();
    let classes = world.get::<ModelConfig>(model).map_or(&[][..], |config| &config.kv_classes);
    if tokens.len() != present.len() * PAGE || !present.iter().all(|page| keeps_whole_contexts(classes, page))
    {
        return added;
    }
    let (end, known) = walk(world, model, tokens);
    for (number, present) in present.iter().enumerate().skip(known) {
        if room == Room::Budget && !fits_cache(world, model, present) {
            break;
        }
        let Some(pages) = take_pages(world, model, present) else { break };
        let slots: Vec<Option<u32>> = pages.iter().map(|page| page.map(|(_, slot)| slot)).collect();
        let pages: Vec<Option<Entity>> = pages.into_iter().map(|page| page.map(|(page, _)| page)).collect();
        if !write(world, number, &slots) {
            for page in pages.into_iter().flatten() {
                world.despawn(page);
            }
            break;
        }
        let run = match added.run.filter(|run| continues(world, *run, &pages)) {
            Some(run) => run,
            None => {
                // Only now, since a run is not split in vain.
                let parent = added.run.or_else(|| end.map(|(run, pages)| seal_at(world, run, pages)));
                cache_run(world, model, parent, number * PAGE)
            }
        };
        for page in pages.iter().flatten() {
            world.entity_mut(*page).insert(PageOf(run));
        }
        grow_cached(world, run, &tokens[number * PAGE..][..PAGE], pages);
        added = ImportedPrefix { pages: added.pages + 1, run: Some(run) };
    }
    added
}

/// Returns true if a page is there for each class that keeps whole contexts.
fn keeps_whole_contexts(classes: &[KvClass], present: &[bool]) -> bool {
    classes.len() == present.len()
        && classes.iter().zip(present).all(|(class, present)| *present || class.window.is_some())
}

/// The end of the whole pages along `tokens` that the tree has: the last run with the number of its pages, and the number
/// of pages in all.
fn walk(world: &World, model: Entity, tokens: &[u32]) -> (Option<(Entity, usize)>, usize) {
    let (mut end, mut pages) = (None, 0);
    while let Some(first) = tokens.get(pages * PAGE..(pages + 1) * PAGE) {
        let Some(run) = find(world, model, end.map(|(run, _)| run), None, first) else { break };
        let Some(data) = world.get::<KvRun>(run) else { break };
        let common = data.tokens.iter().zip(&tokens[pages * PAGE..]).take_while(|(a, b)| a == b).count();
        end = Some((run, common / PAGE));
        pages += common / PAGE;
        if common / PAGE * PAGE < data.tokens.len() {
            break;
        }
    }
    (end, pages)
}

/// Takes a free slot of each class that has a page. Returns the page entities with their slots; `None` if a class has none
/// free.
fn take_pages(world: &mut World, model: Entity, present: &[bool]) -> Option<Vec<Option<(Entity, u32)>>> {
    let free = |(pool, present): (&weft_components::KvPool, &bool)| !present || pool.free() > 0;
    let pools = &world.get::<KvPools>(model)?.0;
    if pools.len() != present.len() || !pools.iter().zip(present).all(free) {
        return None;
    }
    let mut pages = Vec::with_capacity(present.len());
    for (class, present) in present.iter().enumerate() {
        let mut pools = world.get_mut::<KvPools>(model)?;
        let slot = if *present { Some(pools.0[class].take()?) } else { None };
        pages.push(slot.map(|slot| (world.spawn(KvPage { slot, class, pool: model }).id(), slot)));
    }
    Some(pages)
}

/// Returns true if a page may follow in a run: within a run the pages of a class that have left its window come first.
fn continues(world: &World, run: Entity, pages: &[Option<Entity>]) -> bool {
    let Some(data) = world.get::<KvRun>(run) else { return false };
    data.pages.iter().zip(pages).all(|(all, page)| page.is_some() || all.iter().all(Option::is_none))
}
