//! A request for a shard, and what comes of it.

use crate::place::{Install, LoadError, Prepare, Preparing};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::WeightShard;
use weft_formats::ModelError;
use weft_platform::storage::{Source, StorageError};

/// One shard to fetch.
pub struct FetchItem {
    pub(super) entity: Entity,
    pub(super) shard: WeightShard,
    backend: Arc<dyn Prepare>,
    /// Distinguishes this request from earlier ones for the same shard.
    pub(super) ticket: u64,
}

impl FetchItem {
    /// A request for a shard, to be prepared by a backend.
    pub fn new(entity: Entity, shard: WeightShard, backend: Arc<dyn Prepare>) -> Self {
        Self { entity, shard, backend, ticket: 0 }
    }

    /// The shard entity.
    pub fn entity(&self) -> Entity {
        self.entity
    }

    /// The shard.
    pub fn shard(&self) -> &WeightShard {
        &self.shard
    }

    /// The source that holds the shard, and the object that lays out its rows. Checks the shard's range before memory
    /// is allocated.
    pub(super) fn begin<'a>(
        &self,
        sources: &'a [Arc<dyn Source>],
    ) -> Result<(&'a Arc<dyn Source>, Box<dyn Preparing>), LoadError> {
        let shard = &self.shard;
        let Some(source) = sources.get(shard.part) else {
            return Err(ModelError::MissingTensor {
                file: format!("part {}", shard.part),
                name: shard.name.clone(),
            }
            .into());
        };
        let range = shard.range.clone();
        if range.start > range.end || range.end > source.len() {
            return Err(StorageError::out_of_range(source.name(), range, source.len()).into());
        }
        Ok((source, self.backend.begin(shard, source.name())?))
    }
}

/// A shard that has arrived.
pub struct Arrival {
    /// The shard entity.
    pub entity: Entity,
    /// Bytes it took in the file.
    pub bytes: u64,
    /// Puts it into the world.
    pub install: Install,
    pub(super) ticket: u64,
}

/// A message from a reader to the queue.
pub(super) enum Report {
    Started { entity: Entity, ticket: u64 },
    Arrived(Arrival),
    Failed { ticket: u64, entity: Entity, error: LoadError },
}
