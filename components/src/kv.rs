//! The KV cache as entities: runs of context, pages, and the pool of physical slots.
//!
//! A page entity owns one slot of the arena. However the entity dies, its `on_remove` hook returns the slot, so a
//! despawned session, run or model leaks nothing. Kernels never see these entities: they read a session's block
//! table of slots.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use core::ops::Range;

/// Free slots of a model's KV arena. A component of the model.
#[derive(Component, Debug)]
pub struct KvPool {
    /// Returned slots. The last one is taken first.
    returned: Vec<u32>,
    /// Slots never used so far. A range instead of a list, because a pool may have billions of slots, most of them
    /// never used.
    unused: Range<u32>,
    capacity: u32,
}

impl KvPool {
    /// A pool of `capacity` slots, handed out from 0 upwards.
    pub fn new(capacity: u32) -> Self {
        Self { returned: Vec::new(), unused: 0..capacity, capacity }
    }

    /// Number of slots in all.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Number of free slots.
    pub fn free(&self) -> usize {
        self.returned.len() + self.unused.len()
    }

    /// Takes a slot. The caller must put it into a [`KvPage`] at once, which returns it when it is removed.
    pub fn take(&mut self) -> Option<u32> {
        self.returned.pop().or_else(|| self.unused.next())
    }
}

/// One page of the arena: a slot, and the model whose pool it came from.
#[derive(Component, Clone, Copy, Debug)]
#[component(immutable, on_remove = return_slot)]
pub struct KvPage {
    /// Physical slot in the arena.
    pub slot: u32,
    /// The model whose [`KvPool`] takes the slot back.
    pub pool: Entity,
}

fn return_slot(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(page) = world.get::<KvPage>(context.entity).copied() else {
        return;
    };
    // The pool is gone if the whole model is despawned. Then there is nothing to return to.
    if let Some(mut pool) = world.get_mut::<KvPool>(page.pool) {
        pool.returned.push(page.slot);
    }
}

/// The pages of a run, in order of position.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = PageOf, linked_spawn)]
pub struct Pages(Vec<Entity>);

impl Pages {
    /// Page entities in order of position.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Names the run that a page belongs to.
#[derive(Component, Debug)]
#[relationship(relationship_target = Pages)]
pub struct PageOf(pub Entity);

/// A stretch of context. Runs form a tree: a fork is a new child run.
#[derive(Component, Debug, Default)]
#[require(Pages)]
pub struct KvRun;

/// Child runs of a run.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = RunOf, linked_spawn)]
pub struct ChildRuns(Vec<Entity>);

/// Names the parent run that a run continues.
#[derive(Component, Debug)]
#[relationship(relationship_target = ChildRuns)]
pub struct RunOf(pub Entity);
