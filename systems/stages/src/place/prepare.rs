//! Preparing: turns a shard's bytes into the weights of a backend.

use super::error::LoadError;
use bevy_ecs::world::EntityWorldMut;
use std::sync::Arc;
use weft_components::WeightShard;

/// Puts a prepared shard into the world: inserts the backend's weights into the shard entity.
pub type Install = Box<dyn FnOnce(&mut EntityWorldMut<'_>) + Send>;

/// How a backend turns shards' bytes into weights. Runs on the loader's threads, or in the tick if the platform has no
/// threads.
pub trait Prepare: Send + Sync {
    /// Checks a shard, whose bytes exist in the source, and allocates memory for it. `file` is named in errors.
    ///
    /// # Errors
    /// The shard's shape or format cannot be used, or there is no memory for it.
    fn begin(&self, shard: &WeightShard, file: &str) -> Result<Box<dyn Preparing>, LoadError>;
}

/// A shard whose rows are arriving.
pub trait Preparing: Send + Sync {
    /// Lays out the rows from `first` on: a multiple of [`TILE_ROWS`](weft_platform::TILE_ROWS), or up to the last row.
    /// Called from several threads at once, in any order, once for each row. For a vector, called once with all bytes.
    ///
    /// # Errors
    /// The bytes are not rows of the shard's format.
    fn rows(&self, first: usize, bytes: &[u8]) -> Result<(), LoadError>;

    /// Finishes the shard. All of its rows have arrived.
    ///
    /// # Errors
    /// Rows are missing, or the device refused them.
    fn finish(self: Box<Self>) -> Result<Install, LoadError>;
}

/// Prepares a shard for several places.
pub struct PrepareAll(pub Vec<Arc<dyn Prepare>>);

impl PrepareAll {
    /// A `Prepare` for all of `places`. `None` if there are none.
    pub fn of(mut places: Vec<Arc<dyn Prepare>>) -> Option<Arc<dyn Prepare>> {
        match places.len() {
            0 => None,
            1 => places.pop(),
            _ => Some(Arc::new(Self(places))),
        }
    }
}

impl Prepare for PrepareAll {
    fn begin(&self, shard: &WeightShard, file: &str) -> Result<Box<dyn Preparing>, LoadError> {
        let places = self.0.iter().map(|place| place.begin(shard, file)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(PreparingAll(places)))
    }
}

/// A shard whose rows are arriving in several places.
struct PreparingAll(Vec<Box<dyn Preparing>>);

impl Preparing for PreparingAll {
    fn rows(&self, first: usize, bytes: &[u8]) -> Result<(), LoadError> {
        self.0.iter().try_for_each(|place| place.rows(first, bytes))
    }

    fn finish(self: Box<Self>) -> Result<Install, LoadError> {
        let installs = self.0.into_iter().map(|place| place.finish()).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |entity| installs.into_iter().for_each(|install| install(entity))))
    }
}
