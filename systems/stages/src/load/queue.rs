//! The load queue of a model: shards are requested, polled, and may be requested again.
//!
//! Shards of sources that must be polled are read by the tick, a piece at a time. Others are read by the loader's own
//! threads, which all work on the shard that is needed next. On platforms without threads, the tick reads those too,
//! one at a time. A shard that is requested twice before it has arrived arrives once, for the later request.

use super::origin::ModelOrigin;
use super::polled::Polled;
use super::request::{Arrival, FetchItem, Report};
#[cfg(not(target_family = "wasm"))]
use super::threads::Threads;
#[cfg(not(target_family = "wasm"))]
use crate::host::HostCpu;
use crate::host::Wake;
use crate::place::LoadError;
use bevy_ecs::entity::EntityHashMap;
use bevy_ecs::prelude::*;
use core::task::{Context, Waker};
#[cfg(target_family = "wasm")]
use std::collections::VecDeque;
use std::sync::Arc;
use weft_platform::storage::Source;

/// Bytes that one tick takes from a queue, so that waves advance while a fast disk delivers.
pub(super) const BYTES_A_TICK: u64 = 8 << 20;

/// The result of polling a queue.
pub enum Fetched {
    /// The loader has begun to read a shard.
    Started(Entity),
    /// A shard has arrived.
    Arrival(Arrival),
    /// Nothing has arrived, or nothing was requested.
    Nothing,
}

/// The shards that a model has requested and does not have. A component of the model. Removing it cancels the load.
#[derive(Component)]
pub struct LoadQueue {
    sources: Arc<[Arc<dyn Source>]>,
    /// The latest request of each shard that has not arrived.
    asked: EntityHashMap<u64>,
    tickets: u64,
    polled: Polled,
    waker: Waker,
    #[cfg(not(target_family = "wasm"))]
    threads: Threads,
    #[cfg(target_family = "wasm")]
    inline: VecDeque<FetchItem>,
}

impl LoadQueue {
    /// The empty queue of a model.
    pub fn new(world: &World, model: Entity) -> Self {
        let origin = world.get::<ModelOrigin>(model);
        let sources: Arc<[_]> =
            origin.map_or_else(Default::default, |origin| origin.sources.as_slice().into());
        let wake = Wake::of(world);
        Self {
            asked: EntityHashMap::default(),
            tickets: 0,
            polled: Polled::new(Arc::clone(&sources)),
            waker: wake.waker(),
            #[cfg(not(target_family = "wasm"))]
            threads: Threads::new(
                Arc::clone(&sources),
                HostCpu::of(world),
                wake,
                origin.map(ModelOrigin::file).unwrap_or_default(),
            ),
            #[cfg(target_family = "wasm")]
            inline: VecDeque::new(),
            sources,
        }
    }

    /// Requests shards in this order, after those that were requested before.
    ///
    /// # Errors
    /// The loader's threads cannot be started.
    pub fn push(&mut self, items: Vec<FetchItem>) -> Result<(), LoadError> {
        let mut others = Vec::new();
        for mut item in items {
            self.tickets += 1;
            item.ticket = self.tickets;
            self.asked.insert(item.entity(), item.ticket);
            let polled = self.sources.get(item.shard().part).is_some_and(|source| source.is_polled());
            if polled {
                self.polled.push(item);
            } else {
                others.push(item);
            }
        }
        #[cfg(not(target_family = "wasm"))]
        return self.threads.push(others);
        #[cfg(target_family = "wasm")]
        {
            self.inline.extend(others);
            Ok(())
        }
    }

    /// Cancels a request. Bytes that arrive for it are dropped.
    pub fn forget(&mut self, shard: Entity) {
        if self.asked.remove(&shard).is_some() {
            self.polled.forget(shard);
            #[cfg(not(target_family = "wasm"))]
            self.threads.forget(shard);
            #[cfg(target_family = "wasm")]
            self.inline.retain(|item| item.entity() != shard);
        }
    }

    /// Cancels all requests.
    pub fn clear(&mut self) {
        self.asked.clear();
        self.polled.clear();
        #[cfg(not(target_family = "wasm"))]
        self.threads.clear();
        #[cfg(target_family = "wasm")]
        self.inline.clear();
    }

    /// Returns true if everything requested has arrived.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Returns true if this shard has been requested and has not arrived.
    pub fn awaits(&self, shard: Entity) -> bool {
        self.asked.contains_key(&shard)
    }

    /// Takes the next shard. Never waits. Of a source that must be polled it reads about `most` bytes at most.
    ///
    /// # Errors
    /// A shard could not be read after the last retry, or could not be prepared.
    pub fn poll(&mut self, most: u64) -> Result<Fetched, LoadError> {
        if self.asked.is_empty() {
            // What still comes of requests that were cancelled is dropped, so that no thread waits to deliver it.
            #[cfg(not(target_family = "wasm"))]
            while self.threads.poll().is_some() {}
            return Ok(Fetched::Nothing);
        }
        while let Some(report) = self.next_report(most) {
            let current = |entity: Entity, ticket: u64| self.asked.get(&entity) == Some(&ticket);
            match report {
                Report::Started { entity, ticket } if current(entity, ticket) => {
                    return Ok(Fetched::Started(entity));
                }
                Report::Arrived(arrival) if current(arrival.entity, arrival.ticket) => {
                    self.asked.remove(&arrival.entity);
                    return Ok(Fetched::Arrival(arrival));
                }
                Report::Failed { entity, ticket, error } if current(entity, ticket) => return Err(error),
                _ => {}
            }
        }
        Ok(Fetched::Nothing)
    }

    fn next_report(&mut self, most: u64) -> Option<Report> {
        let mut context = Context::from_waker(&self.waker);
        if let Some(report) = self.polled.poll(&mut context, most) {
            return Some(report);
        }
        #[cfg(not(target_family = "wasm"))]
        return self.threads.poll();
        #[cfg(target_family = "wasm")]
        return self.inline.pop_front().map(|item| super::pieces::fetch_here(&item, &self.sources));
    }
}
