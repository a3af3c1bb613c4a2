//! SentencePiece BPE: characters are merged into tokens, those with the highest score first, and characters that are
//! not tokens become bytes.
//!
//! llama.cpp merges any two neighbours that spell a token. The Hugging Face library has a list of pairs; a vocabulary
//! with such a list is merged by it. In both cases words are merged one by one where no token spans their border, and a
//! word that has been seen before is not merged again.

use hashbrown::{HashMap, HashSet};

use super::merge::{Merge, Merger, Merges, Symbol};
use super::place::Place;
use crate::ids::TokenIds;
use crate::pieces::{SPACE, byte_token};
use crate::special::Attributes;
use crate::vocabulary::{Rules, SpacePrefix, Vocabulary};

/// Stands for a character that is not a token.
const NO_TOKEN: u32 = u32::MAX;
/// The tokens of words of at most this many bytes are remembered while a text is encoded.
const REMEMBERED: usize = 64;
/// Tokens longer than this many bytes are not found in a text, since each merge reads the whole string that it would
/// produce.
const LONGEST: usize = 1024;
/// [`SPACE`] in UTF-8.
const SPACE_BYTES: &[u8] = "▁".as_bytes();

/// A SentencePiece vocabulary with scores or merges, prepared for encoding.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    order: Order,
    /// For each token, whether text can become it.
    ordinary: Vec<bool>,
    /// For each byte, the token used if a character that contains it is not a token.
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
    /// Whether neighbouring unknown characters become one unknown token.
    fuse_unk: bool,
    prefix: Option<SpacePrefix>,
    /// Characters that precede a space inside some token.
    before_space: HashSet<char>,
    /// Whether every space begins a word.
    split_at_spaces: bool,
}

/// The order of merges.
#[derive(Debug)]
enum Order {
    /// By the score of the result.
    Scores {
        /// Rank of each token's score, highest score first. `None` for tokens that text cannot become.
        ranks: Vec<Option<u32>>,
        /// Length of the longest token in bytes.
        longest: usize,
    },
    /// By a list of pairs.
    Pairs(HashMap<(u32, u32), Merge>),
}

struct ByScore<'a> {
    ids: &'a TokenIds,
    ranks: &'a [Option<u32>],
    longest: usize,
}

impl Merges for ByScore<'_> {
    fn merge(&self, word: &str, left: Symbol, right: Symbol) -> Option<Merge> {
        let whole = left.start as usize..right.end as usize;
        if whole.len() > self.longest {
            return None;
        }
        let id = self.ids.get(word.get(whole)?)?;
        Some(Merge { rank: (*self.ranks.get(id as usize)?)?, id })
    }
}

impl Merges for HashMap<(u32, u32), Merge> {
    fn merge(&self, _word: &str, left: Symbol, right: Symbol) -> Option<Merge> {
        self.get(&(left.id, right.id)).copied()
    }
}

impl SentencePiece {
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes], ids: &TokenIds) -> Self {
        let ordinary: Vec<bool> = attributes.iter().map(|attributes| attributes.is_ordinary()).collect();
        let is_ordinary = |id: u32| ordinary.get(id as usize).copied().unwrap_or_default();
        let order = if vocabulary.merges.is_empty() {
            by_score(vocabulary, &ordinary)
        } else {
            pairs(&vocabulary.merges, ids, is_ordinary)
        };
        let byte = |byte: u8| {
            if vocabulary.rules == Rules::HuggingFace {
                // These tokens stand for bytes only if the file enables byte fallback.
                let is_byte = |id: &u32| attributes.get(*id as usize).is_some_and(|kind| kind.byte);
                return ids.get(&byte_token(byte)).filter(is_byte);
            }
            // As in llama.cpp: if the byte has no token, the one-byte character is used.
            let plain = || ids.get(std::str::from_utf8(&[byte]).ok()?).filter(|&id| is_ordinary(id));
            ids.get(&byte_token(byte)).or_else(plain)
        };
        let mut before_space = HashSet::new();
        for token in &vocabulary.tokens {
            let pairs = token.chars().zip(token.chars().skip(1));
            before_space.extend(pairs.filter(|(_, right)| *right == SPACE).map(|(left, _)| left));
        }
        let prefix = vocabulary.add_space_prefix.unwrap_or(vocabulary.rules == Rules::LlamaCpp);
        let bytes = (0..=u8::MAX).map(byte).collect();
        Self {
            order,
            ordinary,
            bytes,
            unk: vocabulary.unk,
            fuse_unk: vocabulary.rules == Rules::HuggingFace,
            prefix: prefix.then_some(vocabulary.space_prefix),
            before_space,
            split_at_spaces: vocabulary.split_at_spaces,
        }
    }

    pub(super) fn encode(&self, ids: &TokenIds, text: &str, place: Place, out: &mut Vec<u32>) {
        let mut spaced = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
        let has_space = text.starts_with([' ', SPACE]);
        let prefixed = self.prefix.is_some_and(|prefix| match prefix {
            SpacePrefix::Stretch => true,
            SpacePrefix::Missing => !has_space,
            SpacePrefix::Start => !has_space && place == Place::Start,
        });
        if prefixed {
            spaced.push(SPACE);
        }
        let mut parts = text.split(' ');
        spaced.push_str(parts.next().unwrap_or_default());
        for part in parts {
            spaced.push(SPACE);
            spaced.push_str(part);
        }
        match &self.order {
            Order::Scores { ranks, longest } => {
                self.words(&ByScore { ids, ranks, longest: *longest }, ids, &spaced, out);
            }
            Order::Pairs(pairs) => self.words(pairs, ids, &spaced, out),
        }
    }

    /// Appends the tokens of a text, word by word.
    fn words<M: Merges>(&self, merges: &M, ids: &TokenIds, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        // Where the tokens of each word are in `out`.
        let mut seen: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (word, after) = rest.split_at(self.word_end(rest));
            rest = after;
            let start = out.len();
            let remembered = word.len() <= REMEMBERED;
            if let Some(&(from, to)) = seen.get(word).filter(|_| remembered) {
                out.extend_from_within(from..to);
                continue;
            }
            self.word(merges, ids, &mut merger, word, out);
            if remembered {
                seen.insert(word, (start, out.len()));
            }
        }
    }

    /// Returns the end of the first word of a text. If `split_at_spaces`, it is before the first space. Otherwise it is
    /// before the first space that no token contains after the same preceding character.
    fn word_end(&self, text: &str) -> usize {
        if self.split_at_spaces {
            let mut spaces = memchr::memmem::find_iter(text.as_bytes(), SPACE_BYTES);
            return spaces.find(|at| *at > 0).unwrap_or(text.len());
        }
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&text.as_bytes()[from..], SPACE_BYTES).map(|at| from + at) {
            match text.get(..at).and_then(|before| before.chars().next_back()) {
                Some(before) if before != SPACE && !self.before_space.contains(&before) => return at,
                _ => from = at + SPACE_BYTES.len(),
            }
        }
        text.len()
    }

    fn word<M: Merges>(
        &self,
        merges: &M,
        ids: &TokenIds,
        merger: &mut Merger,
        word: &str,
        out: &mut Vec<u32>,
    ) {
        merger.symbols.clear();
        let mut encoded = [0; 4];
        merger.symbols.extend(word.char_indices().map(|(at, character)| {
            let id = ids.get(character.encode_utf8(&mut encoded)).filter(|&id| self.is_ordinary(id));
            let end = at + character.len_utf8();
            Symbol { id: id.unwrap_or(NO_TOKEN), start: at as u32, end: end as u32 }
        }));
        merger.run(merges, word);
        // The library writes one unknown token for neighbours. It writes it before the next known token, so after bytes
        // that follow the unknown characters.
        let mut pending = None;
        for symbol in &merger.symbols {
            if symbol.id != NO_TOKEN {
                out.extend(pending.take());
                out.push(symbol.id);
                continue;
            }
            let bytes = word.as_bytes().get(symbol.start as usize..symbol.end as usize).unwrap_or_default();
            let token = |byte: &u8| self.bytes.get(usize::from(*byte)).copied().flatten();
            if bytes.iter().all(|byte| token(byte).is_some()) {
                out.extend(bytes.iter().filter_map(token));
            } else if self.fuse_unk {
                pending = self.unk;
            } else {
                out.extend(self.unk);
            }
        }
        out.extend(pending);
    }

    fn is_ordinary(&self, id: u32) -> bool {
        self.ordinary.get(id as usize).copied().unwrap_or_default()
    }
}

/// Ranks the tokens that text can become by their scores.
fn by_score(vocabulary: &Vocabulary, ordinary: &[bool]) -> Order {
    // NaN is the worst score. Adding 0.0 turns -0.0 into 0.0, so both compare equal.
    let key = |score: &f32| if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 };
    let scores: Vec<f32> = vocabulary.scores.iter().take(ordinary.len()).map(key).collect();
    let mut distinct = scores.clone();
    distinct.sort_by(|a, b| b.total_cmp(a));
    distinct.dedup();
    let rank = |score: &f32| distinct.partition_point(|other| other > score) as u32;
    let ranks = scores.iter().zip(ordinary).map(|(score, ordinary)| ordinary.then(|| rank(score))).collect();
    let longest = vocabulary.tokens.iter().zip(ordinary).filter(|(_, ordinary)| **ordinary);
    Order::Scores { ranks, longest: longest.map(|(text, _)| text.len()).max().unwrap_or(0).min(LONGEST) }
}

/// Ranks the pairs of a list. Pairs whose parts or result are not tokens that text can become are left out.
fn pairs(merges: &[String], ids: &TokenIds, ordinary: impl Fn(u32) -> bool) -> Order {
    let mut pairs = HashMap::with_capacity(merges.len());
    let id = |text: &str| ids.get(text).filter(|&id| ordinary(id));
    for (rank, merge) in (0u32..).zip(merges) {
        let Some((left, right)) = merge.split_once(' ') else { continue };
        if let (Some(left_id), Some(right_id), Some(id)) =
            (id(left), id(right), id(&format!("{left}{right}")))
        {
            pairs.entry((left_id, right_id)).or_insert(Merge { rank, id });
        }
    }
    Order::Pairs(pairs)
}
