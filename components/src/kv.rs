//! The KV cache as entities: runs of context, pages, and the pools of physical slots.
//!
//! Layers of equal needs form a [`KvClass`]; each class has a pool, an arena on each backend and a block table in each
//! session. A context is a chain of [`KvRun`]s from a run without a parent to a session's [`LeafRun`]; chains with a
//! common beginning share its runs, so the runs of a model form a prefix tree.
//!
//! A page entity owns one slot of its class. However the entity dies, its `on_remove` hook returns the slot, so a
//! despawned session, run or model leaks nothing. Kernels never see these entities: they read a session's
//! [`BlockTable`](crate::BlockTable).

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use core::ops::Range;

/// Layers whose KV caches have equal needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvClass {
    /// Number of tokens that a query attends to, including its own. `None` for all. Tokens before are not kept.
    pub window: Option<usize>,
    /// Indices of the layers, ascending.
    pub layers: Vec<usize>,
    /// The class, an index in [`ModelConfig::kv_classes`](crate::ModelConfig::kv_classes), whose newest tokens this one
    /// keeps in a wider format. Pages of that class are made from the pages here once they are complete.
    pub recent_of: Option<usize>,
}

impl KvClass {
    /// The first position that is still needed once `computed` tokens are cached.
    pub fn first_needed(&self, computed: usize) -> usize {
        // The next query is at position `computed` and sees itself.
        self.window.map_or(0, |window| (computed + 1).saturating_sub(window))
    }
}

/// Free slots of one class of a model's KV cache.
#[derive(Debug)]
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

/// The pools of a model, one for each of its KV classes. A component of the model.
#[derive(Component, Debug, Default)]
pub struct KvPools(pub Vec<KvPool>);

impl KvPools {
    /// Number of slots of all classes.
    pub fn capacity(&self) -> usize {
        self.0.iter().map(KvPool::capacity).sum()
    }

    /// Number of free slots of all classes.
    pub fn free(&self) -> usize {
        self.0.iter().map(KvPool::free).sum()
    }

    /// Largest number of pages that one context may have: the slots of the classes that keep all of a context.
    pub fn context_pages(&self, classes: &[KvClass]) -> usize {
        let whole = classes.iter().zip(&self.0).filter(|(class, _)| class.window.is_none());
        whole.map(|(_, pool)| pool.capacity()).min().unwrap_or(usize::MAX)
    }
}

/// One page: a slot of a class, and the model whose pool it came from.
#[derive(Component, Clone, Copy, Debug)]
#[component(immutable, on_remove = return_slot)]
pub struct KvPage {
    /// Physical slot in the arena of the class.
    pub slot: u32,
    /// The class, an index in [`KvPools`].
    pub class: usize,
    /// The model whose [`KvPools`] take the slot back.
    pub pool: Entity,
}

fn return_slot(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(page) = world.get::<KvPage>(context.entity).copied() else {
        return;
    };
    // The pools are gone if the whole model is despawned. Then there is nothing to return to.
    if let Some(mut pools) = world.get_mut::<KvPools>(page.pool)
        && let Some(pool) = pools.0.get_mut(page.class)
    {
        pool.returned.push(page.slot);
    }
}

/// The pages of a run, in no order: [`KvRun::pages`] orders them. They are despawned with it.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = PageOf, linked_spawn)]
pub struct Pages(Vec<Entity>);

impl Pages {
    /// Page entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Names the run that a page belongs to.
#[derive(Component, Debug)]
#[relationship(relationship_target = Pages)]
pub struct PageOf(pub Entity);

/// A stretch of context, from a page bound on. A run is *open* while its owner writes it. It is sealed, and never
/// changes again, once a child run or another session continues it.
///
/// It lives while a session, a child run or the prefix cache holds it: nothing despawns children with their parent.
#[derive(Component, Clone, Debug, Default)]
#[require(Pages)]
pub struct KvRun {
    /// Position of its first token, a multiple of the page length.
    pub start: usize,
    /// Its tokens whose keys and values are cached, or will be by waves that have been composed. Only the last page may
    /// be incomplete, and only in a run without children.
    pub tokens: Vec<u32>,
    /// Page entities of each class, by page number within the run. `None` for a page that has left its class's window.
    /// There may be more pages than `tokens` fill.
    pub pages: Vec<Vec<Option<Entity>>>,
    /// The session that may write to the run. `None` if it is sealed.
    pub owner: Option<Entity>,
    /// True if no other session may use it, and it is dropped when its own is closed.
    pub private: bool,
    /// The adapter, and the bits of its scale, that its keys and values were computed with.
    pub adapter: Option<(Entity, u32)>,
    /// Number of holders: sessions whose leaf it is, and children that have holders. Without any it is only cached.
    pub holds: u32,
    /// Number of the last wave that computes tokens of the run.
    pub wave: u64,
    /// Leading tokens that waves before that one compute.
    pub settled: usize,
    /// When it was last used, on a clock that only orders events.
    pub used: u64,
}

impl KvRun {
    /// Position after its last token.
    pub fn end(&self) -> usize {
        self.start + self.tokens.len()
    }

    /// Number of its pages that have not left their class's window.
    pub fn held_pages(&self) -> usize {
        self.pages.iter().flatten().flatten().count()
    }
}

/// Child runs of a run.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = RunOf)]
pub struct ChildRuns(Vec<Entity>);

impl ChildRuns {
    /// Run entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Names the parent run that a run continues. A run at the beginning of contexts has none.
#[derive(Component, Debug)]
#[relationship(relationship_target = ChildRuns)]
pub struct RunOf(pub Entity);

/// The runs of a model. They are despawned with it.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = RunIn, linked_spawn)]
pub struct Runs(EntityHashSet);

impl Runs {
    /// Run entities, in no order.
    pub fn entities(&self) -> impl Iterator<Item = Entity> {
        self.0.iter().copied()
    }
}

/// Names the model that a run belongs to.
#[derive(Component, Debug)]
#[relationship(relationship_target = Runs)]
pub struct RunIn(pub Entity);

/// The sessions whose context ends with a run.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = LeafRun)]
pub struct LeafSessions(Vec<Entity>);

impl LeafSessions {
    /// Session entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// The run that a session's cached context ends with. A session without cached context has none.
#[derive(Component, Clone, Copy, Debug)]
#[relationship(relationship_target = LeafSessions)]
pub struct LeafRun(pub Entity);
