//! Chat templates: renders the Jinja source that a model ships as the Hugging Face library renders it.
//!
//! `jinja` implements Jinja2 with the additions of Hugging Face's environment: `tojson` as Python writes JSON,
//! `raise_exception`, `strftime_now`, loop controls, and the `generation` tag, which marks text for training.
//!
//! A template can come from an untrusted file, so each rendering has a budget: `FUEL` in `chat`.

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
