//! Places, the trait of their backends, and the registry of backends.
//!
//! A [`Backend`] is a plugin. It is registered once and receives a [`Place`](weft_components::Place). From then on layers and ends of models
//! can be placed there through the components [`PlacedOn`](weft_components::PlacedOn) and
//! [`Ends`](weft_components::Ends). Its systems, added to the sets of the tick, compute what is placed there. No code
//! outside a backend asks which backend it is.

mod backend;
mod error;
mod limits;
mod prepare;
mod registry;

pub use backend::{Assignment, Backend, EndsWanted, GpuLayers, Need, Taken};
pub(crate) use backend::{class_format, kv_shape};
pub use error::{LoadError, PlaceError, PlaceErrorKind};
pub use limits::PlaceLimits;
pub use prepare::{Install, Prepare, PrepareAll, Preparing};
pub use registry::Backends;
