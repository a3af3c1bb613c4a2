//! Tokenizing, detokenizing, stop strings and chat templates.
//!
//! - [`Vocabulary`]: the vocabulary of a model file as plain data, read from GGUF or from the files of a Hugging Face
//!   folder. A [`Tokenizer`] is built from it and returns the ids that llama.cpp returns.
//! - [`Detokenizer`] and [`StopStrings`] turn a stream of tokens into text.
//! - [`ChatTemplate`] renders messages with the Jinja template that the model ships.
//!
//! This crate reads no files, clocks or random numbers. No vocabulary, template or text makes it panic. Time is about
//! linear in the length of a text; `template` documents the bounds of templates.

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
