//! Chat templates: the Jinja source that a model ships, rendered as Hugging Face renders it.
//!
//! `jinja` does the work: Jinja2 with what Hugging Face's environment has beyond it (`tojson` as Python writes JSON,
//! `raise_exception`, `strftime_now`, loop controls, and the `generation` tag, which marks text for training).
//!
//! A template comes with a file from anywhere, so it is held to a budget: see `FUEL` in `chat`.

mod builtin;
mod chat;
mod clock;
mod error;
mod jinja;
mod literal;
mod parts;
mod variables;

pub use builtin::{BUILTIN_TEMPLATES, BuiltinTemplate};
pub use chat::ChatTemplate;
pub use clock::CivilTime;
pub use error::TemplateError;
pub use variables::{Message, TemplateVars};
