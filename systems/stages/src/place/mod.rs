//! Places and their backends: what a backend does, and which ones there are.
//!
//! A [`Backend`] is a plugin. It is registered once and is given a [`Place`]; from then on layers and ends of models can
//! be put there through the components [`PlacedOn`](weft_components::PlacedOn) and [`Ends`](weft_components::Ends). Its
//! systems, added to the sets of the tick, compute what is placed there. No code outside a backend asks which one it is.

mod backend;
mod error;
mod prepare;
mod registry;

pub use backend::{Assignment, Backend, EndsWanted, GpuLayers, Need, Taken};
pub use error::{LoadError, PlaceError, PlaceErrorKind};
pub use prepare::{Install, Prepare, PrepareAll, Preparing};
pub use registry::Backends;
