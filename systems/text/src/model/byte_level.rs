//! Byte-level BPE: a text is split into words, and the bytes of each word are merged.
//!
//! Merging follows llama.cpp. It applies merges whose parts or result are not tokens, and emits single bytes for a
//! result that is not a token. Such texts get *phantom* ids, numbered from the vocabulary's size onward. Bytes without
//! a token and control tokens get phantom ids too, so a text that spells a control token does not become that token.

use hashbrown::HashMap;
use unicode_normalization_alignments::UnicodeNormalization;

use super::merge::{Merge, Merger, Merges, Symbol};
use crate::error::TokenizeError;
use crate::ids::TokenIds;
use crate::special::Attributes;
use crate::split::Splitter;
use crate::vocabulary::{Rules, Vocabulary};
use crate::{bytes, pretokenizers};

/// The tokens of words of at most this many bytes are remembered while a text is encoded.
const REMEMBERED: usize = 64;

/// A byte-level vocabulary, prepared for encoding.
#[derive(Debug)]
pub(crate) struct ByteLevel {
    splitter: Splitter,
    merges: Pairs,
    /// The token or phantom id of each byte.
    bytes: Vec<u32>,
    /// The tokens emitted for each phantom id, indexed by the id minus the vocabulary's size.
    phantoms: Vec<Vec<u32>>,
    vocab_size: usize,
    /// For each token, whether text can become it. `None` if words that are tokens are merged like any other.
    whole_words: Option<Vec<bool>>,
    adds_bos: bool,
    nfc: bool,
}

/// The merge of each pair of neighbouring ids.
#[derive(Debug)]
struct Pairs(HashMap<u64, Merge>);

impl Pairs {
    fn key(left: u32, right: u32) -> u64 {
        u64::from(left) << 32 | u64::from(right)
    }
}

impl Merges for Pairs {
    fn merge(&self, _word: &str, left: Symbol, right: Symbol) -> Option<Merge> {
        self.0.get(&Self::key(left.id, right.id)).copied()
    }
}

/// Assigns phantom ids to texts that are not tokens.
struct Phantoms<'a> {
    ids: &'a TokenIds,
    attributes: &'a [Attributes],
    texts: HashMap<String, u32>,
    stand_for: Vec<Vec<u32>>,
}

impl Phantoms<'_> {
    fn token(&self, text: &str) -> Option<u32> {
        let ordinary = |id: &u32| self.attributes.get(*id as usize).is_some_and(|kind| kind.is_ordinary());
        self.ids.get(text).filter(ordinary)
    }

    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.token(text).or_else(|| self.texts.get(text).copied()) {
            return id;
        }
        // Single bytes of the text that are tokens. Only ASCII characters can be.
        let mut encoded = [0; 4];
        let ascii = text.chars().filter(char::is_ascii);
        let stands_for = ascii.filter_map(|byte| self.token(byte.encode_utf8(&mut encoded))).collect();
        // `check` bounds the sizes, so all tokens and phantoms have 32-bit ids.
        let id = (self.ids.len() + self.stand_for.len()) as u32;
        self.stand_for.push(stands_for);
        self.texts.insert(text.to_owned(), id);
        id
    }
}

impl ByteLevel {
    /// # Errors
    /// The pre-tokenizer is not known.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        attributes: &[Attributes],
        ids: &TokenIds,
    ) -> Result<Self, TokenizeError> {
        let name = if vocabulary.pre.is_empty() {
            tracing::warn!("the vocabulary names no pre-tokenizer; using {:?}", pretokenizers::UNNAMED);
            pretokenizers::UNNAMED
        } else {
            vocabulary.pre.as_str()
        };
        let pre = pretokenizers::find(name).ok_or_else(|| TokenizeError::UnknownPreTokenizer {
            name: name.to_owned(),
            supported: pretokenizers::names(),
        })?;
        let mut phantoms = Phantoms { ids, attributes, texts: HashMap::new(), stand_for: Vec::new() };
        let mut encoded = [0; 4];
        let bytes =
            (0..=u8::MAX).map(|byte| phantoms.id(bytes::character(byte).encode_utf8(&mut encoded))).collect();
        let merges = merges(&vocabulary.merges, &mut phantoms);
        let splits = match vocabulary.rules {
            Rules::LlamaCpp => pre.splits,
            Rules::HuggingFace => pre.original_splits(),
        };
        let whole_words = vocabulary.ignore_merges.unwrap_or(pre.ignore_merges);
        Ok(Self {
            splitter: Splitter::new(name, splits)?,
            merges,
            bytes,
            phantoms: phantoms.stand_for,
            vocab_size: ids.len(),
            whole_words: whole_words.then(|| attributes.iter().map(|kind| kind.is_ordinary()).collect()),
            adds_bos: pre.add_bos,
            nfc: vocabulary.nfc,
        })
    }

    /// Returns true if vocabularies with this pre-tokenizer start texts with BOS by default.
    pub(super) fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    pub(super) fn encode(&self, ids: &TokenIds, text: &str, out: &mut Vec<u32>) {
        if self.nfc && !text.is_ascii() {
            let composed: String = text.nfc().map(|(character, _)| character).collect();
            self.words(ids, &composed, out);
        } else {
            self.words(ids, text, out);
        }
    }

    fn words(&self, ids: &TokenIds, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        let mut spelt = String::new();
        // Where the tokens of each word are in `out`.
        let mut seen: HashMap<&str, (usize, usize)> = HashMap::new();
        for range in self.splitter.split(text) {
            let word = text.get(range).unwrap_or_default();
            let remembered = word.len() <= REMEMBERED;
            if let Some(&(from, to)) = seen.get(word).filter(|_| remembered) {
                out.extend_from_within(from..to);
                continue;
            }
            let start = out.len();
            match self.whole_word(ids, word, &mut spelt) {
                Some(id) => out.push(id),
                None => self.word(&mut merger, word, out),
            }
            if remembered {
                seen.insert(word, (start, out.len()));
            }
        }
    }

    fn whole_word(&self, ids: &TokenIds, word: &str, spelt: &mut String) -> Option<u32> {
        let ordinary = self.whole_words.as_ref()?;
        spelt.clear();
        bytes::encode_into(word, spelt);
        ids.get(spelt).filter(|&id| ordinary.get(id as usize).copied().unwrap_or_default())
    }

    fn word(&self, merger: &mut Merger, word: &str, out: &mut Vec<u32>) {
        merger.symbols.clear();
        merger.symbols.extend((0u32..).zip(word.bytes()).map(|(at, byte)| Symbol {
            id: self.bytes.get(usize::from(byte)).copied().unwrap_or_default(),
            start: at,
            end: at + 1,
        }));
        merger.run(&self.merges, word);
        for symbol in &merger.symbols {
            match (symbol.id as usize).checked_sub(self.vocab_size) {
                None => out.push(symbol.id),
                Some(phantom) => out.extend(self.phantoms.get(phantom).into_iter().flatten()),
            }
        }
    }
}

fn merges(list: &[String], phantoms: &mut Phantoms<'_>) -> Pairs {
    let mut merges = HashMap::with_capacity(list.len());
    let mut whole = String::new();
    for (rank, merge) in (0u32..).zip(list) {
        // The left part may be a space or begin with one, so the search starts at the second character.
        let start = merge.chars().next().map_or(0, char::len_utf8);
        let Some((left, right)) = merge
            .get(start..)
            .and_then(|rest| rest.find(' '))
            .and_then(|at| Some((merge.get(..start + at)?, merge.get(start + at + 1..)?)))
        else {
            continue;
        };
        if left.is_empty() || right.is_empty() {
            continue;
        }
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let key = Pairs::key(phantoms.id(left), phantoms.id(right));
        let id = phantoms.id(&whole);
        // Of two equal merges the first one counts.
        merges.entry(key).or_insert(Merge { rank, id });
    }
    Pairs(merges)
}
