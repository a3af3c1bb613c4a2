//! Text to tokens and back, and chat templates.
//!
//! - [`Vocabulary`]: what a model file says, as plain data, read from GGUF or from the files of a Hugging Face folder.
//!   [`Tokenizer`] is built from it and gives the ids that llama.cpp gives.
//! - [`Detokenizer`] and [`StopStrings`] turn tokens into text as they come, one after the other.
//! - [`ChatTemplate`] renders messages with the Jinja template that the model ships.
//!
//! Nothing here reads files, clocks or random numbers, and no vocabulary, template or text makes it
//! panic. Time is about linear in a text; for templates see the bounds in `template`.

pub mod bytes;
mod check;
mod detokenizer;
mod error;
mod hugging_face;
mod ids;
mod model;
mod pieces;
mod pretokenizers;
mod rendered;
mod special;
mod split;
mod stop;
mod template;
mod tokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use error::TokenizeError;
pub use hugging_face::HuggingFaceFiles;
pub use rendered::Rendered;
pub use stop::{StopStrings, Streamed};
pub use template::{
    BUILTIN_TEMPLATES, BuiltinTemplate, ChatTemplate, CivilTime, Message, TemplateError, TemplateVars,
};
pub use tokenizer::{SpecialTokens, Tokenizer};
pub use vocabulary::{Rules, SpacePrefix, TokenType, Vocabulary};
