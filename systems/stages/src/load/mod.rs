//! The stage `Load`: makes the layers of a model resident, and moves layers afterwards.
//!
//! `spawn` creates a model's entities, `assign` chooses the places of its layers, and the queue fetches its shards:
//! they are requested, read in pieces of rows, prepared by the backends that read them, and put into the world by
//! [`receive_shards`]. When a layer is moved or was evicted, its shards are requested again.

mod assign;
mod distribution;
mod evict;
mod failure;
mod fit;
mod movement;
mod origin;
mod pause;
mod pieces;
mod polled;
mod progress;
mod queue;
mod receive;
mod request;
mod rewind;
mod spawn;
#[cfg(not(target_family = "wasm"))]
mod threads;

pub use assign::{place_again, place_model};
pub use evict::{demand_layers, evict_layer, request_layer};
pub use failure::fail_model;
pub use fit::{Fit, FitOptions, PlaceFit, fit};
pub use movement::{Moves, move_ends, move_layer, move_layers, note_ends, note_layer};
pub use origin::{ModelOrigin, SpawnOptions};
pub use progress::Loading;
pub use queue::{Fetched, LoadQueue};
pub use receive::{receive_shards, retry_load};
pub use request::{Arrival, FetchItem};
pub(crate) use rewind::abandon_waves;
pub use rewind::{abandon, rewind_sessions};
pub use spawn::spawn_model;
