//! Turns tokens into text one at a time, without ever giving half a character.

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// A streaming detokenizer. All texts given, one after the other, are the lossy text of all bytes:
/// what [`Tokenizer::decode`] gives for the same tokens, if it begins a text.
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    render_special: bool,
    /// Whether nothing has been given, so that a space may be the tokenizer's and not the text's.
    at_start: bool,
    /// Bytes not given yet: at most the beginning of one character, between two calls.
    pending: Vec<u8>,
    /// The text given last.
    text: String,
}

impl Detokenizer {
    /// Begins a text: where the tokenizer puts a space before texts, it is taken away, as llama.cpp and the Hugging Face
    /// library do it. With `render_special`, control tokens are shown.
    pub fn new(render_special: bool) -> Self {
        Self { render_special, at_start: true, ..Self::default() }
    }

    /// Goes on with a text that has begun, such as a prompt's: a space that the tokens begin with belongs to it.
    pub fn continuing(render_special: bool) -> Self {
        Self { render_special, ..Self::default() }
    }

    /// Adds a token and gives the text that is complete now, which may be empty.
    ///
    /// # Errors
    /// An id that is not in the vocabulary; nothing is added then.
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

    /// Ends the text: the rest, in which an incomplete character is U+FFFD. Another text may follow.
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
    /// The text of tokens, from its beginning: the space that the tokenizer puts there is taken away. Bytes that are not
    /// UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
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

/// Whether bytes at the end of a text are the beginning of a character.
fn may_be_completed(bytes: &[u8]) -> bool {
    // `error_len` is `None` only where the input ends too early.
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
