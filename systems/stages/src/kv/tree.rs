//! The prefix tree of a model: finds runs by their first tokens, splits them, and caches those that nobody holds.

use bevy_ecs::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use weft_components::{ChildRuns, ContextCursor, KvPage, KvRun, LeafRun, LeafSessions, Phase, RunIn, RunOf};
use weft_platform::PAGE;

/// Fewest tokens of an incomplete page for which it is copied. Fewer are computed again.
pub(super) const PARTIAL: usize = 8;
/// Pages that are freed at once, from the end of the least recently used run.
pub(super) const EVICTED_PAGES: usize = 8;

/// Counts what the prefix tree saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Prompts that looked for a cached beginning.
    pub lookups: u64,
    /// Of these, prompts that found one.
    pub hits: u64,
    /// Tokens whose keys and values were found instead of computed.
    pub reused_tokens: u64,
    /// Tokens of prompts that were computed.
    pub prefilled_tokens: u64,
    /// Cached tokens that were dropped because memory or the cache's budget was used up.
    pub evicted_tokens: u64,
}

/// Where a run is looked for: by its parent, the adapter, and its first tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Beginning {
    parent: Option<Entity>,
    adapter: Option<(Entity, u32)>,
    tokens: u64,
    count: usize,
}

impl Beginning {
    fn of(parent: Option<Entity>, adapter: Option<(Entity, u32)>, tokens: &[u32]) -> Self {
        let mut hasher = DefaultHasher::new();
        tokens.hash(&mut hasher);
        Self { parent, adapter, tokens: hasher.finish(), count: tokens.len() }
    }
}

/// The prefix tree of a model: an index of its runs, and which of them may be dropped. A component of the model.
#[derive(Component, Debug, Default)]
pub struct PrefixTree {
    /// Runs by their first tokens: by a whole page, and by [`PARTIAL`] tokens. The tokens are compared afterwards.
    index: HashMap<Beginning, Entity>,
    /// Runs without children and holders, the least recently used first.
    pub(super) cached: BTreeSet<(u64, Entity)>,
    /// Runs without children that sessions held when they came to rest. They may have become active since.
    resting: BTreeSet<(u64, Entity)>,
    /// Bytes of runs without holders.
    pub(super) cached_bytes: u64,
    /// Most bytes of them.
    pub(super) budget: u64,
    /// Bytes of a page of each class.
    pub(super) page_bytes: Vec<u64>,
    /// Counts what the tree saved.
    pub stats: PrefixStats,
    clock: u64,
}

impl PrefixTree {
    /// A tree that keeps at most `budget` bytes of runs that no session holds. `page_bytes` are those of a page of each
    /// class.
    pub fn new(budget: u64, page_bytes: Vec<u64>) -> Self {
        Self { budget, page_bytes, ..Self::default() }
    }

    /// Bytes of contexts that no session holds.
    pub fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    fn bytes(&self, run: &KvRun) -> u64 {
        let pages = run.pages.iter().zip(&self.page_bytes);
        pages.map(|(pages, bytes)| pages.iter().flatten().count() as u64 * bytes).sum()
    }

    /// The next time of the clock of last use.
    pub(super) fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

pub(super) fn model_of(world: &World, run: Entity) -> Option<Entity> {
    world.get::<RunIn>(run).map(|of| of.0)
}

pub(super) fn parent_of(world: &World, run: Entity) -> Option<Entity> {
    world.get::<RunOf>(run).map(|of| of.0)
}

/// A run and the runs before it, the last one first.
pub(super) fn chain(world: &World, run: Option<Entity>) -> impl Iterator<Item = Entity> {
    core::iter::successors(run, |run| parent_of(world, *run))
}

pub(super) fn has_children(world: &World, run: Entity) -> bool {
    world.get::<ChildRuns>(run).is_some_and(|children| !children.entities().is_empty())
}

pub(super) fn tree_of(world: &mut World, run: Entity) -> Option<Mut<'_, PrefixTree>> {
    let model = model_of(world, run)?;
    world.get_mut::<PrefixTree>(model)
}

/// The run after `parent` whose first tokens are `tokens`.
pub(super) fn find(
    world: &World,
    model: Entity,
    parent: Option<Entity>,
    adapter: Option<(Entity, u32)>,
    tokens: &[u32],
) -> Option<Entity> {
    let tree = world.get::<PrefixTree>(model)?;
    let run = *tree.index.get(&Beginning::of(parent, adapter, tokens))?;
    world.get::<KvRun>(run).is_some_and(|run| run.tokens.starts_with(tokens)).then_some(run)
}

/// The beginnings by which a run can be found.
fn beginnings(world: &World, run: Entity) -> impl Iterator<Item = Beginning> {
    let parent = parent_of(world, run);
    let data = world.get::<KvRun>(run).filter(|data| !data.private);
    [PARTIAL, PAGE].into_iter().filter_map(move |count| {
        let data = data?;
        Some(Beginning::of(parent, data.adapter, data.tokens.get(..count)?))
    })
}

/// Enters a run into the index, unless another run begins alike.
pub(super) fn index(world: &mut World, run: Entity) {
    let [first, second] = two(beginnings(world, run));
    let Some(mut tree) = tree_of(world, run) else { return };
    for beginning in [first, second].into_iter().flatten() {
        tree.index.entry(beginning).or_insert(run);
    }
}

/// Takes a run out of the index, before its parent or its first tokens change.
pub(super) fn unindex(world: &mut World, run: Entity) {
    let [first, second] = two(beginnings(world, run));
    let Some(mut tree) = tree_of(world, run) else { return };
    for beginning in [first, second].into_iter().flatten() {
        if tree.index.get(&beginning) == Some(&run) {
            tree.index.remove(&beginning);
        }
    }
}

fn two<T>(mut items: impl Iterator<Item = T>) -> [Option<T>; 2] {
    [items.next(), items.next()]
}

/// Splits a run before its page `pages` and returns the run that has the pages before. The run itself keeps the rest,
/// its children, its sessions and its owner.
pub(super) fn split(world: &mut World, run: Entity, pages: usize) -> Entity {
    unindex(world, run);
    let (parent, model) = (parent_of(world, run), model_of(world, run));
    let upper = world.spawn_empty().id();
    let mut moved = Vec::new();
    let mut before = KvRun::default();
    if let Some(mut data) = world.get_mut::<KvRun>(run) {
        let tokens = (pages * PAGE).min(data.tokens.len());
        let rest = data.tokens.split_off(tokens);
        before = KvRun {
            tokens: core::mem::replace(&mut data.tokens, rest),
            owner: None,
            holds: u32::from(data.holds > 0),
            settled: data.settled.min(tokens),
            pages: Vec::new(),
            ..data.clone()
        };
        data.start += tokens;
        data.settled = data.settled.saturating_sub(tokens);
        for class in &mut data.pages {
            let rest = class.split_off(pages.min(class.len()));
            let first = core::mem::replace(class, rest);
            moved.extend(first.iter().flatten().copied());
            before.pages.push(first);
        }
    }
    world.entity_mut(upper).insert(before);
    if let Some(model) = model {
        world.entity_mut(upper).insert(RunIn(model));
    }
    if let Some(parent) = parent {
        world.entity_mut(upper).insert(RunOf(parent));
    }
    world.entity_mut(run).insert(RunOf(upper));
    for page in moved {
        world.entity_mut(page).insert(weft_components::PageOf(upper));
    }
    index(world, upper);
    index(world, run);
    upper
}

/// Adds a holder to a run, and through it to the runs before.
pub(super) fn hold(world: &mut World, run: Entity) {
    let mut next = Some(run);
    while let Some(run) = next {
        let Some(mut data) = world.get_mut::<KvRun>(run) else { return };
        data.holds += 1;
        if data.holds > 1 {
            return;
        }
        uncache(world, run);
        next = parent_of(world, run);
    }
}

/// Takes a run out of the accounts of those without holders.
pub(super) fn uncache(world: &mut World, run: Entity) {
    let Some(data) = world.get::<KvRun>(run) else { return };
    let (used, bytes) = (data.used, data_bytes(world, run));
    if let Some(mut tree) = tree_of(world, run) {
        tree.cached.remove(&(used, run));
        tree.cached_bytes = tree.cached_bytes.saturating_sub(bytes);
    }
}

/// Puts a run without children and holders into the accounts again.
pub(super) fn recache(world: &mut World, run: Entity) {
    let (bytes, used) = (data_bytes(world, run), world.get::<KvRun>(run).map_or(0, |data| data.used));
    if let Some(mut tree) = tree_of(world, run) {
        tree.cached_bytes += bytes;
        tree.cached.insert((used, run));
    }
}

fn data_bytes(world: &World, run: Entity) -> u64 {
    let tree = model_of(world, run).and_then(|model| world.get::<PrefixTree>(model));
    world.get::<KvRun>(run).zip(tree).map_or(0, |(data, tree)| tree.bytes(data))
}

/// Takes a holder from a run. A run without any is cached, up to the budget, or dropped if it has nothing to cache.
pub(super) fn unhold(world: &mut World, run: Entity) {
    let model = model_of(world, run);
    let mut next = Some(run);
    while let Some(run) = next {
        let Some(mut data) = world.get_mut::<KvRun>(run) else { break };
        data.holds = data.holds.saturating_sub(1);
        if data.holds > 0 {
            note_rest(world, run);
            break;
        }
        data.owner = None;
        next = parent_of(world, run);
        let useless = data_is_useless(world, run);
        if useless && !has_children(world, run) {
            discard(world, run);
            continue;
        }
        super::context::drop_pages_beyond_tokens(world, run);
        let bytes = data_bytes(world, run);
        let now = tree_of(world, run).map_or(0, |mut tree| tree.now());
        let used = world.get_mut::<KvRun>(run).map(|mut data| core::mem::replace(&mut data.used, now));
        if let (Some(used), Some(mut tree)) = (used, tree_of(world, run)) {
            tree.resting.remove(&(used, run));
        }
        let childless = !has_children(world, run);
        if let Some(mut tree) = tree_of(world, run) {
            tree.cached_bytes += bytes;
            if childless {
                tree.cached.insert((now, run));
            }
        }
    }
    if let Some(model) = model {
        keep_to_budget(world, model);
    }
}

/// Returns true if nobody could continue a run that has no holder.
fn data_is_useless(world: &World, run: Entity) -> bool {
    world.get::<KvRun>(run).is_none_or(|data| data.private || data.tokens.len() < PARTIAL)
}

/// Despawns a run without children and holders, which is in no account.
fn discard(world: &mut World, run: Entity) {
    unindex(world, run);
    let used = world.get::<KvRun>(run).map_or(0, |data| data.used);
    if let Some(mut tree) = tree_of(world, run) {
        tree.resting.remove(&(used, run));
    }
    super::context::despawn_pages(world, run, 0);
    world.despawn(run);
}

/// Notes that a run is held by sessions at rest, if it is: then its pages can be taken when there are no others.
pub(crate) fn note_rest(world: &mut World, run: Entity) {
    if !is_resting(world, run) {
        return;
    }
    let now = tree_of(world, run).map_or(0, |mut tree| tree.now());
    let used = world.get_mut::<KvRun>(run).map(|mut data| core::mem::replace(&mut data.used, now));
    if let (Some(used), Some(mut tree)) = (used, tree_of(world, run)) {
        tree.resting.remove(&(used, run));
        tree.resting.insert((now, run));
    }
}

/// Returns true if a run has no children, and all of its sessions are at rest.
fn is_resting(world: &World, run: Entity) -> bool {
    let sessions = world.get::<LeafSessions>(run).map_or(&[][..], LeafSessions::entities);
    let active = |session: &Entity| world.get::<Phase>(*session).is_some_and(|phase| phase.is_active());
    !sessions.is_empty() && !has_children(world, run) && !sessions.iter().any(active)
}

/// Drops the least recently used runs without holders until the rest are within the cache's budget.
fn keep_to_budget(world: &mut World, model: Entity) {
    while world.get::<PrefixTree>(model).is_some_and(|tree| tree.cached_bytes > tree.budget) {
        if !evict_cached(world, model, usize::MAX) {
            return;
        }
    }
}

/// Drops all contexts of a model that no session holds.
pub fn clear_cache(world: &mut World, model: Entity) {
    while evict_cached(world, model, usize::MAX) {}
}

/// Frees pages of contexts that no session computes with: of those that nobody holds, then of sessions at rest, the
/// least recently used first, from the end. Returns false if there are none.
pub(super) fn evict(world: &mut World, model: Entity) -> bool {
    evict_cached(world, model, EVICTED_PAGES) || evict_resting(world, model, EVICTED_PAGES)
}

/// Drops the last `pages` pages of the least recently used run that nobody holds.
pub(super) fn evict_cached(world: &mut World, model: Entity, pages: usize) -> bool {
    let first = world.get::<PrefixTree>(model).and_then(|tree| tree.cached.first().copied());
    let Some((_, run)) = first else { return false };
    let parent = parent_of(world, run);
    uncache(world, run);
    if shorten(world, run, pages) {
        recache(world, run);
        return true;
    }
    discard(world, run);
    note_lost_child(world, parent);
    true
}

/// Notes that a child of a run was dropped: without children the run can be dropped next.
fn note_lost_child(world: &mut World, parent: Option<Entity>) {
    let Some(parent) = parent.filter(|parent| !has_children(world, *parent)) else { return };
    let Some(data) = world.get::<KvRun>(parent) else { return };
    let (held, used) = (data.holds > 0, data.used);
    if held {
        note_rest(world, parent);
    } else if let Some(mut tree) = tree_of(world, parent) {
        tree.cached.insert((used, parent));
    }
}

/// Takes the last `pages` pages from the session at rest that was used the longest ago.
fn evict_resting(world: &mut World, model: Entity, pages: usize) -> bool {
    loop {
        let Some(mut tree) = world.get_mut::<PrefixTree>(model) else { return false };
        let Some((_, run)) = tree.resting.pop_first() else { return false };
        if !is_resting(world, run) {
            continue;
        }
        let sessions = crate::related::<LeafSessions>(world, run);
        let keep = world.get::<KvRun>(run).map_or(0, |data| kept_tokens(data, pages));
        let end = world.get::<KvRun>(run).map_or(0, |data| data.start + keep);
        for session in sessions {
            if keep > 0 {
                // The rest of the run is shortened below, for all of its sessions.
                if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
                    cursor.rewind(end);
                }
                super::context::shorten_table(world, session);
            } else {
                super::context::move_to_parent(world, session);
            }
        }
        // Without sessions the run is gone, or cached: then it is the next to be dropped.
        if keep > 0 {
            shorten(world, run, pages);
            note_rest(world, run);
        } else if world.get::<KvRun>(run).is_some() {
            return evict_cached(world, model, pages);
        }
        return true;
    }
}

/// Tokens that a run keeps without its last `pages` pages.
fn kept_tokens(run: &KvRun, pages: usize) -> usize {
    run.tokens.len().div_ceil(PAGE).saturating_sub(pages) * PAGE
}

/// Drops the last `pages` pages of a run. Returns false, and does nothing, if it has no more.
fn shorten(world: &mut World, run: Entity, pages: usize) -> bool {
    let Some(data) = world.get::<KvRun>(run) else { return false };
    let (keep, had) = (kept_tokens(data, pages), data.tokens.len());
    if let Some(mut tree) = tree_of(world, run) {
        tree.stats.evicted_tokens += (had - keep) as u64;
    }
    if keep == 0 {
        return false;
    }
    super::context::cut(world, run, keep);
    true
}

/// Drops a run and all runs after it, whoever holds them, and takes them from their sessions.
pub(super) fn drop_subtree(world: &mut World, run: Entity) {
    let mut all = vec![run];
    let mut next = 0;
    while let Some(run) = all.get(next).copied() {
        all.extend(crate::related::<ChildRuns>(world, run));
        next += 1;
    }
    for run in all.into_iter().rev() {
        for session in crate::related::<LeafSessions>(world, run) {
            super::context::truncate_session(world, session, 0);
        }
        // The last session's leaving may have dropped the run.
        if world.get::<KvRun>(run).is_some() {
            let parent = parent_of(world, run);
            uncache(world, run);
            discard(world, run);
            note_lost_child(world, parent);
        }
    }
}

/// Releases the run of a session that is closed or despawned. An observer.
pub fn release_leaf(
    removed: On<'_, '_, Remove<LeafRun>>,
    leaves: Query<'_, '_, &LeafRun>,
    mut commands: Commands<'_, '_>,
) {
    if let Ok(LeafRun(run)) = leaves.get(removed.entity).copied() {
        commands.queue(move |world: &mut World| unhold(world, run));
    }
}

/// Number of free slots and of slots of runs without holders, by class.
pub(super) fn free_or_cached(world: &World, model: Entity, class: usize) -> usize {
    let pools = world.get::<weft_components::KvPools>(model);
    let free = pools.and_then(|pools| pools.0.get(class)).map_or(0, |pool| pool.free());
    let tree = world.get::<PrefixTree>(model);
    // Exact if all classes' pages are as large; otherwise near enough to decide when to start.
    let each = tree.map_or(1, |tree| tree.page_bytes.iter().sum::<u64>().max(1));
    free + tree.map_or(0, |tree| (tree.cached_bytes / each) as usize)
}

/// The slot of a page.
pub(super) fn slot(world: &World, page: Option<Entity>) -> u32 {
    page.and_then(|page| world.get::<KvPage>(page)).map_or(0, |page| page.slot)
}
