//! What becomes of contexts whose keys and values are lost: a wave was cleared before it had passed all layers, or
//! layers have moved.

use super::context::{leaf_of, truncate_session};
use super::tree::{drop_subtree, parent_of};
use bevy_ecs::prelude::*;
use weft_components::{KvRun, Runs, Sessions};

/// Forgets what the wave with number `wave` of a model, and later ones, were to compute: they have been cleared. Others
/// may have attached to it.
pub fn abandon_rows(world: &mut World, model: Entity, wave: u64) {
    let lost = |run: &KvRun| run.wave >= wave && !run.tokens.is_empty();
    let kept = |run: &KvRun| if run.wave == wave { run.settled } else { 0 };
    for session in crate::related::<Sessions>(world, model) {
        let mut limit = None;
        let mut next = leaf_of(world, session);
        while let Some(run) = next {
            if let Some(data) = world.get::<KvRun>(run).filter(|data| lost(data)) {
                limit = Some(data.start + kept(data));
            }
            next = parent_of(world, run);
        }
        if let Some(limit) = limit {
            truncate_session(world, session, limit);
        }
    }
    // What is left of them is held by nobody.
    for run in crate::related::<Runs>(world, model) {
        let data = world.get::<KvRun>(run);
        if data.is_some_and(|data| lost(data) && data.tokens.len() > kept(data)) {
            drop_subtree(world, run);
        }
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
