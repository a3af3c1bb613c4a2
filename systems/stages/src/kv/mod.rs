//! The KV cache: which pages a context has, and who shares them.
//!
//! A context is a chain of runs (see [`weft_components::KvRun`]). The runs of a model form a prefix tree: a session
//! that starts walks down the tree along its tokens (`attach`) and computes only what it does not find. Pages belong
//! to runs, each to one; a run belongs to whoever holds it, and is cached when nobody does. The last run of a chain may
//! be *owned*: then its session appends to it. Whatever others hold is never written.
//!
//! | file | what |
//! |---|---|
//! | `tree.rs` | the index of beginnings, splitting, holding, the cache and its budget |
//! | `attach.rs` | finding cached beginnings, forks |
//! | `context.rs` | a session's own part: its open run, new pages, cutting, windows |
//! | `abandon.rs` | what becomes of runs whose wave is never computed |
//! | `cached.rs` | runs that are added to the cache without a session |
//! | `transfer.rs` | pages outside the cache: those of snapshots, and what is in them |
//! | `prefixes.rs` | whole pages of the tree, for a cache on disk |
//! | `swap.rs` | contexts of preempted sessions in host memory |
//!
//! Invariant: a page's keys and values are those of its run's tokens at its positions, or will be before any wave
//! composed later reads them, because waves pass every layer in the order in which they are composed.

mod abandon;
mod attach;
mod cached;
mod context;
mod prefixes;
mod swap;
mod transfer;
mod tree;

pub use abandon::{abandon_rows, forget_contexts};
pub use attach::fork_context;
pub(crate) use attach::{PartialPage, attach, attach_part, first_slots};
pub use cached::touch;
pub(crate) use context::{append_rows, available, reserve};
pub use context::{detach, truncate_session};
pub use prefixes::{ImportedPrefix, Room, SealedRun, import_prefix, sealed_runs};
pub use swap::SwappedContext;
pub(crate) use swap::{swap_in, swap_out};
pub use transfer::{context_pages, import_context, is_quiet, only_backend, read_slots, write_slots};
pub(crate) use tree::note_rest;
pub use tree::{PrefixStats, PrefixTree, clear_cache, release_leaf};
