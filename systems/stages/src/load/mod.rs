//! The stage `Load`: from a model that has been read to resident layers.
//!
//! `spawn` makes a model's entities and places them, the feed fetches shards on threads of its own, and
//! [`receive_shards`] puts what has arrived into the world.

mod error;
mod feed;
mod receive;
mod spawn;
mod text;

pub use error::LoadError;
pub use feed::{Arrival, FetchItem, Fetched, Install, LoadFeed, Loader, Prepare, Preparing};
pub use receive::{LoadFailed, Loading, receive_shards};
pub use spawn::{ModelOrigin, SpawnOptions, place_model, spawn_model};
pub use text::{ModelTemplate, ModelTokenizer};
