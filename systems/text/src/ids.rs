//! Maps the text of a token to its id.

use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::error::TokenizeError;

/// The texts of all tokens, concatenated, and a hash table of their ids.
#[derive(Debug)]
pub(super) struct TokenIds {
    texts: Texts,
    table: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
}

/// Concatenated strings.
#[derive(Debug, Default)]
struct Texts {
    text: String,
    /// The end of each string in `text`, in bytes.
    ends: Vec<usize>,
}

impl Texts {
    fn get(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let start = match id.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.text.get(start..*self.ends.get(id)?)
    }
}

impl TokenIds {
    /// # Errors
    /// Two tokens have the same text.
    pub(super) fn new(tokens: &[String]) -> Result<Self, TokenizeError> {
        let hasher = hashbrown::DefaultHashBuilder::default();
        let mut texts = Texts {
            text: String::with_capacity(tokens.iter().map(String::len).sum()),
            ends: Vec::with_capacity(tokens.len()),
        };
        let mut table = HashTable::with_capacity(tokens.len());
        for (id, text) in (0u32..).zip(tokens) {
            texts.text.push_str(text);
            texts.ends.push(texts.text.len());
            let hash = hasher.hash_one(text.as_str());
            if let Some(&first) = table.find(hash, |&other| texts.get(other) == Some(text)) {
                return Err(TokenizeError::DuplicateToken { text: text.clone(), first, second: id });
            }
            table.insert_unique(hash, id, |&other| hasher.hash_one(texts.get(other).unwrap_or_default()));
        }
        Ok(Self { texts, table, hasher })
    }

    /// Returns the id of a token.
    pub(super) fn get(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |&id| self.texts.get(id) == Some(text)).copied()
    }

    /// Returns the text of a token.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id)
    }

    /// Returns the number of tokens.
    pub(super) fn len(&self) -> usize {
        self.texts.ends.len()
    }
}
