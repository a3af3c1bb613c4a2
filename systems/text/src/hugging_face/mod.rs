//! A vocabulary from the files of a Hugging Face folder: `tokenizer.json` and what stands beside it.
//!
//! Its parts (normalizer, pre-tokenizer, model) are matched with what the tokenizer knows; a part that it does not know
//! is an error that names it.

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
    /// Reads a vocabulary, of which [`Tokenizer::new`] makes a tokenizer that gives the ids of the Hugging Face library.
    /// The fields that GGUF has keys for are filled as its converters do: merges of `llama` become scores as well.
    ///
    /// Three differences to the library remain: text such as `<0x41>` never becomes the token of a byte that it does not hold;
    /// special tokens are cut out longest first, not from the left, which shows where two overlap, and out of the text as it is,
    /// even where `normalized` asks for another form; and scores of unigram models have 32 bits.
    ///
    /// # Errors
    /// Files that are not the JSON they should be; a normalizer, pre-tokenizer or model that is not known.
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
