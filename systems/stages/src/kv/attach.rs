//! Finding what is cached: a session that is about to compute a prompt takes over the pages of runs with the same
//! tokens, adapter and model, as far as they go.
//!
//! Whole pages are shared as soon as their rows have joined a wave, since the session's own rows join the same wave or
//! a later one, and a layer stores all rows of a wave before any attends. An incomplete page is copied instead, by the
//! session's wave, so its rows must have joined an earlier one; if most of it joins the current wave, the session waits
//! for the next.

use super::context::{adapter_of, cut_table, extend_table, is_private, leaf_of, open_run, reserve, set_leaf};
use super::tree::{PARTIAL, PrefixTree, find, parent_of, slot, split};
use bevy_ecs::prelude::*;
use weft_components::{ContextCursor, KvPage, KvRun, ModelConfig, SessionOf, TokenHistory};
use weft_platform::PAGE;

/// What came of the next, incomplete page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PartialPage {
    /// Nothing of it is cached.
    #[default]
    None,
    /// Its first tokens are cached: the session's wave copies the first pages of one run to those of the session's own
    /// run. The first run may be dropped meanwhile; its slots are not written before the wave has copied them.
    Copied {
        /// The run to copy from.
        from: Entity,
        /// The session's own run.
        to: Entity,
    },
    /// Most of it is computed by the wave being composed: in the next wave it can be copied.
    NextWave,
}

/// Moves the end of a session's context forward over whole pages of runs that begin with its next tokens, up to position
/// `limit`.
pub(crate) fn attach(world: &mut World, session: Entity, limit: usize) {
    let Some(model) = world.get::<SessionOf>(session).map(|of| of.0) else { return };
    if is_private(world, session) {
        return;
    }
    let before = position(world, session);
    while let Some(at) = Ahead::of(world, session, model, limit) {
        if !at.whole_pages(world) {
            break;
        }
    }
    let after = position(world, session);
    if let Some(mut tree) = world.get_mut::<PrefixTree>(model) {
        tree.stats.reused_tokens += (after - before) as u64;
    }
}

/// Takes over the first tokens of the next page, which the session shares with nobody from then on. `wave` is the number
/// of the wave being composed, which the session must join.
pub(crate) fn attach_part(world: &mut World, session: Entity, limit: usize, wave: u64) -> PartialPage {
    let Some(model) = world.get::<SessionOf>(session).map(|of| of.0) else { return PartialPage::None };
    if is_private(world, session) {
        return PartialPage::None;
    }
    let before = position(world, session);
    let Some(at) = Ahead::of(world, session, model, limit) else { return PartialPage::None };
    let part = at.part_of_a_page(world, wave).unwrap_or_default();
    let after = position(world, session);
    if let Some(mut tree) = world.get_mut::<PrefixTree>(model) {
        tree.stats.reused_tokens += (after - before) as u64;
    }
    part
}

/// Seals a run after its page `pages`, so that others can continue it. Returns the run that ends there: the run itself, or
/// the first part of it if it was split.
pub(super) fn seal_at(world: &mut World, run: Entity, pages: usize) -> Entity {
    let ends_here = |data: &KvRun| {
        data.tokens.len() == pages * PAGE && data.pages.iter().all(|class| class.len() == pages)
    };
    let last = if world.get::<KvRun>(run).is_some_and(ends_here) { run } else { split(world, run, pages) };
    if let Some(mut data) = world.get_mut::<KvRun>(last) {
        data.owner = None;
    }
    last
}

/// The slots of the first pages of a run, by class.
pub(crate) fn first_slots(world: &World, run: Entity) -> impl Iterator<Item = u32> {
    let classes = world.get::<KvRun>(run).map_or(&[][..], |data| &data.pages);
    classes.iter().map(|class| slot(world, class.first().copied().flatten()))
}

fn position(world: &World, session: Entity) -> usize {
    world.get::<ContextCursor>(session).map_or(0, |cursor| cursor.scheduled)
}

/// The place in the tree where a session's context ends.
struct Ahead {
    session: Entity,
    model: Entity,
    /// The run that ends there. `None` at the beginning of contexts.
    parent: Option<Entity>,
    adapter: Option<(Entity, u32)>,
    start: usize,
    /// Position up to which the session's tokens may be found in the cache.
    limit: usize,
}

impl Ahead {
    /// `None` if the context does not end at a page bound, or has too few tokens left.
    fn of(world: &World, session: Entity, model: Entity, limit: usize) -> Option<Self> {
        let cursor = world.get::<ContextCursor>(session)?;
        let start = cursor.scheduled;
        if cursor.unread > 0 || !start.is_multiple_of(PAGE) || limit < start + PARTIAL {
            return None;
        }
        let leaf = leaf_of(world, session);
        let empty = |run: Entity| world.get::<KvRun>(run).is_some_and(|data| data.tokens.is_empty());
        let parent = leaf.and_then(|run| if empty(run) { parent_of(world, run) } else { Some(run) });
        // The last tokens of the context may not be recorded yet.
        if parent.and_then(|run| world.get::<KvRun>(run)).map_or(0, KvRun::end) != start {
            return None;
        }
        Some(Self { session, model, parent, adapter: adapter_of(world, session), start, limit })
    }

    /// The session's tokens from here on.
    fn tokens<'w>(&self, world: &'w World) -> &'w [u32] {
        let history = world.get::<TokenHistory>(self.session).map_or(&[][..], |history| &history.0);
        history.get(self.start..self.limit.min(history.len())).unwrap_or_default()
    }

    fn find(&self, world: &World, count: usize) -> Option<Entity> {
        find(world, self.model, self.parent, self.adapter, self.tokens(world).get(..count)?)
    }

    /// Takes over whole pages of a run. Returns false if there are none.
    fn whole_pages(&self, world: &mut World) -> bool {
        let session = self.session;
        let Some(run) = self.find(world, PAGE) else { return false };
        let Some(data) = world.get::<KvRun>(run) else { return false };
        let common = data.tokens.iter().zip(self.tokens(world)).take_while(|(a, b)| a == b).count();
        let pages = common / PAGE;
        if pages == 0 || !self.reaches_windows(world, data, pages) {
            return false;
        }
        let last = seal_at(world, run, pages);
        // An own run without tokens may have pages, which are dropped with it. Rows before may still be in flight.
        cut_table(world, session, self.start / PAGE);
        extend_table(world, session, last, 0..pages);
        set_leaf(world, session, last);
        if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
            cursor.computed = self.start + pages * PAGE;
            cursor.scheduled = cursor.computed;
        }
        true
    }

    /// Returns true if the run still has the pages that a context needs which ends after its first `pages` pages.
    fn reaches_windows(&self, world: &World, run: &KvRun, pages: usize) -> bool {
        let Some(config) = world.get::<ModelConfig>(self.model) else { return false };
        config.kv_classes.iter().zip(&run.pages).all(|(class, all)| {
            let first = class.first_needed(self.start + pages * PAGE).saturating_sub(self.start) / PAGE;
            first >= pages || all.get(first..pages).is_some_and(|pages| !pages.contains(&None))
        })
    }

    /// Takes over the first tokens of an incomplete page, or of one that differs later on.
    fn part_of_a_page(&self, world: &mut World, wave: u64) -> Option<PartialPage> {
        let session = self.session;
        let run = self.find(world, PARTIAL)?;
        let data = world.get::<KvRun>(run)?;
        let common = |tokens: &[u32]| {
            tokens.iter().zip(self.tokens(world)).take(PAGE).take_while(|(a, b)| a == b).count()
        };
        let settled = if data.wave == wave { data.settled } else { data.tokens.len() };
        let (ready, all) = (common(data.tokens.get(..settled)?), common(&data.tokens));
        if all >= ready + PARTIAL {
            return Some(PartialPage::NextWave);
        }
        // A whole page is shared, not copied: it has been tried.
        let whole = |class: &Vec<Option<Entity>>| class.first().copied().flatten().is_some();
        if !(PARTIAL..PAGE).contains(&ready) || !data.pages.iter().all(whole) {
            return None;
        }
        let first: Vec<Entity> =
            data.pages.iter().filter_map(|class| class.first().copied().flatten()).collect();
        // Making room may drop the page.
        if reserve(world, session, self.start + 1) <= self.start
            || first.iter().any(|page| world.get::<KvPage>(*page).is_none())
        {
            return None;
        }
        let own = open_run(world, session)?;
        let tokens = self.tokens(world).get(..ready)?.to_vec();
        let mut data = world.get_mut::<KvRun>(own)?;
        data.tokens.extend(tokens);
        (data.wave, data.settled) = (wave, 0);
        super::tree::index(world, own);
        // They are there once the wave has copied them: until then they are rows in flight.
        if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
            cursor.scheduled = self.start + ready;
        }
        Some(PartialPage::Copied { from: run, to: own })
    }
}

/// Gives the session `to`, which has no context yet and the same tokens, the whole pages of the context of `from`. The
/// last, incomplete page is copied when `to` is computed next, if it is still there.
pub fn fork_context(world: &mut World, from: Entity, to: Entity) {
    let Some(cursor) = world.get::<ContextCursor>(from).copied() else { return };
    let wave = leaf_of(world, from).and_then(|run| world.get::<KvRun>(run)).map_or(0, |data| data.wave);
    super::append_rows(world, from, cursor.computed, wave);
    attach(world, to, cursor.computed);
    if let Some(run) = leaf_of(world, to) {
        super::note_rest(world, run);
    }
}
