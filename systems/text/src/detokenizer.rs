//! Turns tokens into text one at a time. The text returned never ends inside a character.

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// A streaming detokenizer for one text. The pieces returned, concatenated, are the lossy UTF-8 text of all bytes: the
/// same text that [`Tokenizer::decode`] returns for the same tokens, if created with [`Detokenizer::new`].
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    render_special: bool,
    /// In a text started with [`Detokenizer::new`], true until a token with bytes has been pushed: the space before it
    /// may be the one that the tokenizer adds.
    at_start: bool,
    /// Bytes not returned yet. Between two calls, at most the first bytes of one character.
    pending: Vec<u8>,
    /// The text returned by the last call.
    text: String,
}

impl Detokenizer {
    /// Starts a text. If the tokenizer adds a space before texts, that space is removed, as in llama.cpp and the
    /// Hugging Face library. With `render_special`, control tokens are shown.
    pub fn new(render_special: bool) -> Self {
        Self { render_special, at_start: true, ..Self::default() }
    }

    /// Continues a text that has already started, such as the answer after a prompt. A leading space of the tokens is
    /// kept.
    pub fn continuing(render_special: bool) -> Self {
        Self { render_special, ..Self::default() }
    }

    /// Adds a token and returns the text that it completes, which may be empty.
    ///
    /// # Errors
    /// The id is not in the vocabulary. Nothing is added then.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<&str, TokenizeError> {
        let bytes = tokenizer.checked_bytes(id, self.render_special)?;
        let space = self.at_start && tokenizer.adds_space();
        self.at_start &= bytes.is_empty();
        self.pending.extend_from_slice(bytes.strip_prefix(b" ").filter(|_| space).unwrap_or(bytes));
        self.text.clear();
        let mut kept = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && may_be_completed(invalid) {
                kept = invalid.len();
            } else if !invalid.is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        drop(chunks);
        self.pending.drain(..self.pending.len() - kept);
        Ok(&self.text)
    }

    /// Ends the text and returns what is left: U+FFFD if a character is incomplete. The detokenizer can then be used
    /// for another text.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        self.pending.clear();
        &self.text
    }
}

impl Tokenizer {
    /// Decodes the tokens of a whole text. The space that the tokenizer adds before texts is removed. Bytes that are
    /// not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], render_special: bool) -> Result<String, TokenizeError> {
        let mut detokenizer = Detokenizer::new(render_special);
        let mut text = String::with_capacity(ids.len().saturating_mul(4));
        for &id in ids {
            text.push_str(detokenizer.push(self, id)?);
        }
        text.push_str(detokenizer.finish());
        Ok(text)
    }
}

/// Returns true if `bytes` are the first bytes of a character whose rest may follow.
fn may_be_completed(bytes: &[u8]) -> bool {
    // `error_len` is `None` only if the input ends too early.
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
