//! A session's own part of the KV cache: its open run, new pages, cutting, and pages that leave a window.

use super::tree::{
    chain, evict, free_or_cached, has_children, hold, index, model_of, parent_of, slot, split, unhold,
    unindex,
};
use crate::sample::SessionSampler;
use bevy_ecs::prelude::*;
use weft_components::{
    BlockTable, ContextCursor, KvPage, KvPools, KvRun, LeafRun, LeafSessions, ModelConfig, PageOf,
    PrivateContext, RunIn, RunOf, SessionOf, TokenHistory, UsesAdapter,
};
use weft_platform::PAGE;

/// Tokens before a window that are kept all the same, so that a context can be cut a little without losing its window.
const SLACK: usize = 2 * PAGE;

pub(super) fn leaf_of(world: &World, session: Entity) -> Option<Entity> {
    world.get::<LeafRun>(session).map(|leaf| leaf.0)
}

/// The adapter of a session, as runs name it.
pub(super) fn adapter_of(world: &World, session: Entity) -> Option<(Entity, u32)> {
    world.get::<UsesAdapter>(session).map(|used| (used.adapter, used.scale.to_bits()))
}

/// Returns true if the session's context must not be shared: it asked for that, or the model's rows attend to later
/// ones too, so that keys and values depend on the whole text.
pub(super) fn is_private(world: &World, session: Entity) -> bool {
    let model = world.get::<SessionOf>(session).and_then(|of| world.get::<ModelConfig>(of.0));
    world.get::<PrivateContext>(session).is_some() || model.is_none_or(|config| !config.causal)
}

/// Makes `run` the last of a session's chain.
pub(super) fn set_leaf(world: &mut World, session: Entity, run: Entity) {
    let before = leaf_of(world, session);
    if before == Some(run) {
        return;
    }
    hold(world, run);
    world.entity_mut(session).insert(LeafRun(run));
    if let Some(before) = before {
        unhold(world, before);
    }
}

/// Takes its whole context from a session. What others may use stays cached.
pub fn detach(world: &mut World, session: Entity) {
    if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
        cursor.rewind(0);
    }
    if leaf_of(world, session).is_some() {
        // An observer releases the run.
        world.entity_mut(session).remove::<LeafRun>();
    }
    shorten_table(world, session);
}

/// Moves the end of a session's context to the run before its last.
pub(super) fn move_to_parent(world: &mut World, session: Entity) {
    let Some(run) = leaf_of(world, session) else { return };
    let Some(parent) = parent_of(world, run) else { return detach(world, session) };
    let start = world.get::<KvRun>(run).map_or(0, |data| data.start);
    if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
        cursor.rewind(start);
    }
    set_leaf(world, session, parent);
    shorten_table(world, session);
}

/// Cuts a session's block tables to its cached context.
pub(super) fn shorten_table(world: &mut World, session: Entity) {
    let Some(computed) = world.get::<ContextCursor>(session).map(|cursor| cursor.computed) else { return };
    cut_table(world, session, computed.div_ceil(PAGE));
}

/// Cuts a session's block tables to their first `pages` pages.
pub(super) fn cut_table(world: &mut World, session: Entity, pages: usize) {
    if let Some(mut table) = world.get_mut::<BlockTable>(session) {
        table.0.iter_mut().for_each(|class| class.truncate(pages));
    }
}

/// Returns true if the session may write to the run: it owns it, and nobody continues or shares it.
fn is_open(world: &World, session: Entity, run: Entity) -> bool {
    let alone = |run| world.get::<LeafSessions>(run).is_some_and(|sessions| sessions.entities().len() == 1);
    world.get::<KvRun>(run).is_some_and(|data| data.owner == Some(session))
        && alone(run)
        && !has_children(world, run)
}

/// The run that a session writes to. A new one if its last run is sealed; the context then ends at a page bound.
pub(super) fn open_run(world: &mut World, session: Entity) -> Option<Entity> {
    let leaf = leaf_of(world, session);
    if let Some(run) = leaf.filter(|run| is_open(world, session, *run)) {
        return Some(run);
    }
    let model = world.get::<SessionOf>(session)?.0;
    let classes = world.get::<ModelConfig>(model)?.kv_classes.len();
    let before = leaf.and_then(|run| world.get::<KvRun>(run));
    // Nobody finds what follows a private run.
    let follows_private = before.is_some_and(|run| run.private);
    let start = before.map_or(0, KvRun::end);
    debug_assert!(start.is_multiple_of(PAGE), "a sealed run ends at a page bound");
    let data = KvRun {
        start,
        owner: Some(session),
        private: follows_private || is_private(world, session),
        adapter: adapter_of(world, session),
        pages: vec![Vec::new(); classes],
        ..KvRun::default()
    };
    let run = world.spawn((data, RunIn(model))).id();
    if let Some(parent) = leaf {
        world.entity_mut(run).insert(RunOf(parent));
    }
    set_leaf(world, session, run);
    Some(run)
}

/// Adds pages to a session's context until it has room for `tokens` tokens, as far as there are pages. Frees pages that
/// its windows have left behind, and pages of contexts that nobody computes with. Returns the number of tokens there is
/// room for.
pub(crate) fn reserve(world: &mut World, session: Entity, tokens: usize) -> usize {
    let table = |world: &World| world.get::<BlockTable>(session).map_or(0, |table| table.pages() * PAGE);
    let room = table(world);
    if room >= tokens {
        return room;
    }
    let Some(model) = world.get::<SessionOf>(session).map(|of| of.0) else { return room };
    let Some(run) = open_run(world, session) else { return room };
    leave_windows(world, session, run, model);
    while table(world) < tokens {
        if !add_page(world, session, run, model) {
            break;
        }
    }
    table(world)
}

/// Adds a page of every class to the end of a session's context. Returns false, and adds none, if a class has none.
fn add_page(world: &mut World, session: Entity, run: Entity, model: Entity) -> bool {
    let classes = world.get::<KvPools>(model).map_or(0, |pools| pools.0.len());
    for class in 0..classes {
        let free = |world: &World| world.get::<KvPools>(model).is_some_and(|pools| pools.0[class].free() > 0);
        while !free(world) {
            if !evict(world, model) {
                return false;
            }
        }
    }
    for class in 0..classes {
        let taken = world.get_mut::<KvPools>(model).and_then(|mut pools| pools.0[class].take());
        let Some(slot) = taken else { return false };
        let page = world.spawn((KvPage { slot, class, pool: model }, PageOf(run))).id();
        if let Some(mut data) = world.get_mut::<KvRun>(run) {
            data.pages[class].push(Some(page));
        }
        if let Some(mut table) = world.get_mut::<BlockTable>(session) {
            if table.0.len() < classes {
                table.0.resize(classes, Vec::new());
            }
            table.0[class].push(slot);
        }
    }
    true
}

/// Frees pages of a session's context that no later token attends to, in its open run and in the runs before that nobody
/// else holds.
fn leave_windows(world: &mut World, session: Entity, run: Entity, model: Entity) {
    let Some(computed) = world.get::<ContextCursor>(session).map(|cursor| cursor.computed) else { return };
    let classes = world.get::<ModelConfig>(model).map_or(0, |config| config.kv_classes.len());
    for class in 0..classes {
        let first = world
            .get::<ModelConfig>(model)
            .map_or(0, |config| config.kv_classes[class].first_needed(computed).saturating_sub(SLACK));
        let mut next = Some(run).filter(|_| first > 0);
        while let Some(run) = next {
            if world.get::<KvRun>(run).is_none_or(|data| data.holds > 1) {
                break;
            }
            leave_window(world, session, run, class, first);
            next = parent_of(world, run);
        }
    }
}

/// Frees pages of one run and class that are wholly before position `first`.
fn leave_window(world: &mut World, session: Entity, run: Entity, class: usize, first: usize) {
    let Some(mut data) = world.get_mut::<KvRun>(run) else { return };
    let (start, gone) = (data.start / PAGE, first.saturating_sub(data.start) / PAGE);
    let pages = &mut data.pages[class];
    let left = pages.partition_point(Option::is_none);
    let leaving = pages.iter_mut().enumerate().take(gone).skip(left);
    let leaving = leaving.filter_map(|(number, page)| Some((start + number, page.take()?))).collect();
    free_pages(world, session, class, leaving);
}

/// Frees pages of a session's context, `(page number, page)`, that have been taken out of their run. The last one is the
/// first to be used again.
pub(super) fn free_pages(world: &mut World, session: Entity, class: usize, pages: Vec<(usize, Entity)>) {
    for (number, page) in pages.into_iter().rev() {
        world.despawn(page);
        if let Some(mut table) = world.get_mut::<BlockTable>(session) {
            table.0[class][number] = 0;
        }
    }
}

/// Number of free pages, or of pages that can be freed, of the scarcest class that keeps whole contexts.
pub(crate) fn available(world: &World, model: Entity) -> usize {
    let Some(config) = world.get::<ModelConfig>(model) else { return 0 };
    let whole = config.kv_classes.iter().enumerate().filter(|(_, class)| class.window.is_none());
    let least = whole.map(|(class, _)| free_or_cached(world, model, class)).min();
    least.unwrap_or_else(|| free_or_cached(world, model, 0))
}

/// Records the tokens of rows that joined wave `wave`: those of the session's context up to position `end` that are
/// known. Others will find them from now on.
pub(crate) fn append_rows(world: &mut World, session: Entity, end: usize, wave: u64) {
    let Some(run) = leaf_of(world, session).filter(|run| is_open(world, session, *run)) else { return };
    let Ok([history, mut data]) = world.get_entity_mut([session, run]) else { return };
    let (Some(history), Some(mut data)) = (history.get::<TokenHistory>(), data.get_mut::<KvRun>()) else {
        return;
    };
    let known = history.0.get(data.end()..end.min(history.0.len())).unwrap_or_default();
    if data.wave != wave {
        data.settled = data.tokens.len();
        data.wave = wave;
    }
    let before = data.tokens.len();
    data.tokens.extend_from_slice(known);
    let after = data.tokens.len();
    let begins = |count: usize| before < count && after >= count;
    if !data.private && (begins(super::tree::PARTIAL) || begins(PAGE)) {
        index(world, run);
    }
}

/// Keeps the first `keep` tokens of a session's cached context, and discards its rows in flight, because the context
/// that they depend on has changed. Random numbers of tokens that will not be read are drawn again. Where the context
/// is shared, or its windows do not reach back so far, less may be kept.
pub fn truncate_session(world: &mut World, session: Entity, keep: usize) {
    let Some(mut cursor) = world.get_mut::<ContextCursor>(session) else { return };
    cursor.preempted = false;
    let (unread, computed) = (cursor.unread, cursor.computed);
    let scheduled = cursor.scheduled > computed || unread > 0 || cursor.drafts > 0;
    // After a request was cancelled, its run still has the tokens of rows in flight.
    let run_end = leaf_of(world, session).and_then(|run| world.get::<KvRun>(run)).map_or(0, KvRun::end);
    let in_flight = scheduled || run_end > computed;
    // A context of which nothing is computed may hold pages all the same.
    if !in_flight && computed > 0 && keep >= computed && reaches_windows(world, session, computed) {
        return;
    }
    if let Some(mut sampler) = world.get_mut::<SessionSampler>(session) {
        sampler.take_back(unread);
    }
    let wave = leaf_of(world, session).and_then(|run| world.get::<KvRun>(run)).map_or(0, |data| data.wave);
    append_rows(world, session, computed, wave);
    let kept = cut_chain(world, session, keep.min(computed), computed);
    if !reaches_windows(world, session, kept) {
        return detach(world, session);
    }
    if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
        cursor.rewind(kept);
    }
    shorten_table(world, session);
}

/// Cuts the chain of a session, of which `computed` tokens have been computed, to at most `keep` tokens. Returns the number
/// that is kept.
fn cut_chain(world: &mut World, session: Entity, keep: usize, computed: usize) -> usize {
    let Some(leaf) = leaf_of(world, session) else { return 0 };
    let mut run = leaf;
    while world.get::<KvRun>(run).is_some_and(|data| data.start >= keep) {
        let Some(parent) = parent_of(world, run) else {
            world.entity_mut(session).remove::<LeafRun>();
            return 0;
        };
        run = parent;
    }
    set_leaf(world, session, run);
    let open = is_open(world, session, run);
    let Some(data) = world.get::<KvRun>(run) else { return 0 };
    let (start, had) = (data.start, data.tokens.len());
    let within = keep - start;
    if within >= had {
        if open {
            despawn_pages(world, run, within.div_ceil(PAGE));
            // Tokens that were chosen on a device and never read are not part of the context.
            return if within > had { start + had } else { keep };
        }
        return start + had;
    }
    // Rows in flight, and less than a page, are not worth caching.
    if open && (keep == computed || had - within < PAGE) {
        cut(world, run, within);
        return keep;
    }
    // The rest stays cached for others, and for the session itself if it comes back to it.
    match within / PAGE {
        0 => {
            move_to_parent(world, session);
            start
        }
        pages => {
            let upper = split(world, run, pages);
            set_leaf(world, session, upper);
            start + pages * PAGE
        }
    }
}

/// Returns true if the pages that the next token attends to are there, where the session's context has `kept` tokens.
fn reaches_windows(world: &World, session: Entity, kept: usize) -> bool {
    let Some(config) = world.get::<SessionOf>(session).and_then(|of| world.get::<ModelConfig>(of.0)) else {
        return true;
    };
    config.kv_classes.iter().enumerate().all(|(class, of)| {
        let first = of.first_needed(kept);
        for data in chain(world, leaf_of(world, session)).filter_map(|run| world.get::<KvRun>(run)) {
            let pages =
                first.saturating_sub(data.start) / PAGE..kept.saturating_sub(data.start).div_ceil(PAGE);
            let here = data.pages.get(class).and_then(|all| all.get(pages.start..pages.end.min(all.len())));
            if here.is_none_or(|pages| pages.contains(&None)) {
                return false;
            }
            if data.start <= first {
                return true;
            }
        }
        kept == 0
    })
}

/// Cuts a run to its first `tokens` tokens, for all of its sessions.
pub(super) fn cut(world: &mut World, run: Entity, tokens: usize) {
    unindex(world, run);
    if let Some(mut data) = world.get_mut::<KvRun>(run) {
        data.tokens.truncate(tokens);
        data.settled = data.settled.min(tokens);
    }
    index(world, run);
    drop_pages_beyond_tokens(world, run);
}

/// Drops the pages of a run that its tokens do not reach.
pub(super) fn drop_pages_beyond_tokens(world: &mut World, run: Entity) {
    let keep = world.get::<KvRun>(run).map_or(0, |data| data.tokens.len().div_ceil(PAGE));
    despawn_pages(world, run, keep);
}

/// Returns the pages of a run from page `keep` on to their pools, the last page first.
pub(super) fn despawn_pages(world: &mut World, run: Entity, keep: usize) {
    debug_assert!(model_of(world, run).is_some(), "a run belongs to a model");
    let classes = world.get::<KvRun>(run).map_or(0, |data| data.pages.len());
    for class in 0..classes {
        while let Some(mut data) = world.get_mut::<KvRun>(run) {
            if data.pages[class].len() <= keep {
                break;
            }
            let page = data.pages[class].pop().flatten();
            if let Some(page) = page {
                world.despawn(page);
            }
        }
    }
}

/// Appends the slots of pages `pages` of a run to a session's block tables.
pub(super) fn extend_table(world: &mut World, session: Entity, run: Entity, pages: core::ops::Range<usize>) {
    let Some(data) = world.get::<KvRun>(run) else { return };
    let added: Vec<Vec<u32>> = data
        .pages
        .iter()
        .map(|class| class[pages.clone()].iter().map(|page| slot(world, *page)).collect())
        .collect();
    if let Some(mut table) = world.get_mut::<BlockTable>(session) {
        if table.0.len() < added.len() {
            table.0.resize(added.len(), Vec::new());
        }
        table.0.iter_mut().zip(added).for_each(|(table, added)| table.extend(added));
    }
}
