//! The loader: reads shards in the order in which they are needed and hands them to the world.
//!
//! A [`Loader`] knows files and a backend's [`Prepare`], and nothing of threads. Natively it runs on a thread of its
//! own behind a bounded channel; where there are no threads the load system pulls it, a byte budget a tick.

use super::error::LoadError;
use bevy_ecs::prelude::*;
use bevy_ecs::world::EntityWorldMut;
use std::collections::VecDeque;
use std::sync::Arc;
use weft_components::WeightShard;
use weft_platform::storage::{Bytes, Source};

/// Puts a prepared shard into the world: inserts the backend's weights into the shard entity.
pub type Install = Box<dyn FnOnce(&mut EntityWorldMut<'_>) + Send>;

/// How a backend turns a shard's bytes into weights. Runs on the loader's thread.
pub trait Prepare: Send + Sync {
    /// Checks and lays out one shard. `file` is named in errors.
    fn prepare(&self, shard: &WeightShard, bytes: &Bytes, file: &str) -> Result<Install, LoadError>;
}

/// One shard to fetch.
pub struct FetchItem {
    /// The shard entity.
    pub entity: Entity,
    /// What it is.
    pub shard: WeightShard,
    /// The backend it is prepared for.
    pub backend: Arc<dyn Prepare>,
}

/// A shard that has arrived.
pub struct Arrival {
    /// The shard entity.
    pub entity: Entity,
    /// Bytes it took in the file.
    pub bytes: u64,
    /// Puts it into the world.
    pub install: Install,
}

/// Reads and prepares shards one by one.
pub struct Loader {
    sources: Vec<Arc<dyn Source>>,
    items: VecDeque<FetchItem>,
}

impl Loader {
    /// A loader of `items`, in their order, from the parts of a file.
    pub fn new(sources: Vec<Arc<dyn Source>>, items: impl IntoIterator<Item = FetchItem>) -> Self {
        Self { sources, items: items.into_iter().collect() }
    }

    /// Fetches the next shard; `None` when all are done.
    pub fn fetch(&mut self) -> Option<Result<Arrival, LoadError>> {
        let item = self.items.pop_front()?;
        Some(self.prepare(&item))
    }

    fn prepare(&self, item: &FetchItem) -> Result<Arrival, LoadError> {
        let shard = &item.shard;
        let Some(source) = self.sources.get(shard.part) else {
            return Err(LoadError::MissingTensor {
                file: format!("part {}", shard.part),
                name: shard.name.clone(),
            });
        };
        let bytes = source.read(shard.range.clone())?;
        let install = item.backend.prepare(shard, &bytes, source.name())?;
        Ok(Arrival { entity: item.entity, bytes: shard.range.end - shard.range.start, install })
    }
}

/// What the load system found in a feed.
pub enum Fetched {
    /// A shard.
    Arrival(Arrival),
    /// Nothing yet.
    Nothing,
    /// No further shard will come.
    End,
}

/// Where a model's shards come from. A component of the model while it loads; removing it cancels the load.
#[derive(Component)]
pub struct LoadFeed(Feed);

enum Feed {
    Inline(Loader),
    #[cfg(not(target_family = "wasm"))]
    Thread(threaded::Receiver),
}

impl LoadFeed {
    /// A feed without a thread: each tick pulls some.
    pub fn inline(loader: Loader) -> Self {
        Self(Feed::Inline(loader))
    }

    /// A feed filled by a thread of its own, which ends when the feed is dropped.
    #[cfg(not(target_family = "wasm"))]
    pub fn threaded(loader: Loader, file: &str) -> Result<Self, LoadError> {
        threaded::spawn(loader, file).map(|receiver| Self(Feed::Thread(receiver)))
    }

    /// Takes the next shard without waiting.
    pub fn poll(&mut self) -> Result<Fetched, LoadError> {
        match &mut self.0 {
            Feed::Inline(loader) => {
                loader.fetch().map_or(Ok(Fetched::End), |shard| shard.map(Fetched::Arrival))
            }
            #[cfg(not(target_family = "wasm"))]
            Feed::Thread(receiver) => receiver.poll(),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod threaded {
    //! The loader on a thread.

    use super::{Arrival, Fetched, LoadError, Loader};
    use crossbeam_channel::TryRecvError;

    /// Prepared shards that may wait to be taken: enough to keep both sides busy, few enough to bound memory.
    const AHEAD: usize = 8;

    pub(super) struct Receiver {
        channel: crossbeam_channel::Receiver<Result<Arrival, LoadError>>,
    }

    pub(super) fn spawn(mut loader: Loader, file: &str) -> Result<Receiver, LoadError> {
        let (sender, channel) = crossbeam_channel::bounded(AHEAD);
        std::thread::Builder::new()
            .name("weft-loader".into())
            .spawn(move || {
                // A closed channel is the cancel: nobody wants the rest.
                while let Some(shard) = loader.fetch() {
                    if sender.send(shard).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| LoadError::NoThread { file: file.to_owned(), reason: error.to_string() })?;
        Ok(Receiver { channel })
    }

    impl Receiver {
        pub(super) fn poll(&mut self) -> Result<Fetched, LoadError> {
            match self.channel.try_recv() {
                Ok(shard) => shard.map(Fetched::Arrival),
                Err(TryRecvError::Empty) => Ok(Fetched::Nothing),
                Err(TryRecvError::Disconnected) => Ok(Fetched::End),
            }
        }
    }
}
