//! Reads a vocabulary from the files of a Hugging Face folder: `tokenizer.json` and the files beside it.
//!
//! The parts of `tokenizer.json` (normalizer, pre-tokenizer, model) are matched with what the tokenizer implements. A
//! part that it does not implement is an error that names the part.

mod byte_level;
mod expressions;
mod files;
mod json;
mod roles;
mod sentencepiece;
mod tokens;
mod unigram;
mod wordpiece;

pub use files::HuggingFaceFiles;

use crate::error::TokenizeError;
use crate::vocabulary::Vocabulary;
use files::TOKENIZER;
use json::{TokenizerFile, read, unsupported};
use serde_json::Value;
use tokens::{model_kind, tokens};

impl Vocabulary {
    /// Reads a vocabulary from Hugging Face files. [`Tokenizer::new`] makes a tokenizer of it that returns the ids of
    /// the Hugging Face library. The fields that GGUF has keys for are filled as GGUF converters fill them: merges of
    /// `llama` also become scores.
    ///
    /// Three differences to the library remain:
    /// - Text such as `<0x41>` never becomes the token of a byte that it does not contain.
    /// - Special tokens are cut out longest first, not from the left, which matters if two overlap. They are cut out of
    ///   the text as it is, even if `normalized` asks for the normalised text.
    /// - Scores of unigram models have 32 bits.
    ///
    /// # Errors
    /// A file is not valid JSON or lacks a required field; or a normalizer, pre-tokenizer or model is not implemented.
    ///
    /// [`Tokenizer::new`]: crate::Tokenizer::new
    pub fn from_hugging_face(files: &HuggingFaceFiles<'_>) -> Result<Self, TokenizeError> {
        let file: TokenizerFile = read(TOKENIZER, files.tokenizer)?;
        let mut vocabulary = tokens(&file)?;
        match model_kind(&file.model) {
            "BPE" if byte_level::is_byte_level(&file) => byte_level::fill(&mut vocabulary, &file)?,
            "BPE" => sentencepiece::fill(&mut vocabulary, &file)?,
            "Unigram" => unigram::fill(&mut vocabulary, &file)?,
            "WordPiece" => wordpiece::fill(&mut vocabulary, &file)?,
            other => return Err(unsupported("model.type", &Value::from(other))),
        }
        roles::fill(&mut vocabulary, &file, files)?;
        Ok(vocabulary)
    }
}
