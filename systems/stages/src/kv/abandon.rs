//! What becomes of contexts whose keys and values are lost: a wave was cleared before it had passed all layers, or
//! layers have moved.

use super::context::{leaf_of, truncate_session};
use super::tree::{chain, drop_subtree, parent_of};
use bevy_ecs::prelude::*;
use weft_components::{ContextCursor, KvRun, Runs, Sessions};

/// Forgets what the wave with number `wave` of a model, and later ones, were to compute: they have been cleared. Others
/// may have attached to it.
pub fn abandon_rows(world: &mut World, model: Entity, wave: u64) {
    let lost = |run: &KvRun| run.wave >= wave && !run.tokens.is_empty();
    for session in crate::related::<Sessions>(world, model) {
        let runs = chain(world, leaf_of(world, session)).filter_map(|run| world.get::<KvRun>(run));
        let first = runs.filter(|data| lost(data)).last();
        if let Some(limit) = first.map(|data| data.start + kept(world, data, wave)) {
            truncate_session(world, session, limit);
        }
    }
    // What is left of them is held by nobody.
    for run in crate::related::<Runs>(world, model) {
        let data = world.get::<KvRun>(run);
        if data.is_some_and(|data| lost(data) && data.tokens.len() > kept(world, data, wave)) {
            drop_subtree(world, run);
        }
    }
}

/// Tokens of a run that waves before `wave` have computed: for its owner, those that have been delivered to it.
fn kept(world: &World, run: &KvRun, wave: u64) -> usize {
    match run.owner.and_then(|owner| world.get::<ContextCursor>(owner)) {
        Some(cursor) => cursor.computed.saturating_sub(run.start).min(run.tokens.len()),
        None if run.wave == wave => run.settled,
        None => 0,
    }
}

/// Forgets all contexts of a model, cached ones too. Sessions compute theirs again from their histories.
pub fn forget_contexts(world: &mut World, model: Entity) {
    for run in crate::related::<Runs>(world, model) {
        if world.get::<KvRun>(run).is_some() && parent_of(world, run).is_none() {
            drop_subtree(world, run);
        }
    }
}
