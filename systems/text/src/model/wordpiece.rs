//! WordPiece: text is normalised and split into words, and each word into the longest tokens from the left. A word that
//! tokens do not cover is unknown as a whole. Source: Devlin et al., "BERT", 2019, and its published code.
//!
//! llama.cpp and the Hugging Face library normalise differently. Of a character's decomposition llama.cpp keeps the
//! first character, the library every character that is not a mark. They also disagree on which characters are control
//! characters.

use hashbrown::HashMap;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

use super::classes::CharClass;
use super::trie::{LONGEST, Trie};
use crate::error::TokenizeError;
use crate::pieces::SPACE;
use crate::special::Attributes;
use crate::vocabulary::{Rules, Vocabulary};

/// The Hugging Face library treats longer words as unknown.
const LONGEST_WORD: usize = 100;
/// The tokens of words of at most this many bytes are remembered while a text is encoded.
const REMEMBERED: usize = 64;

/// A vocabulary of word beginnings and continuations, prepared for encoding.
#[derive(Debug)]
pub(crate) struct WordPiece {
    tokens: Trie,
    /// Tokens that can continue a word. Under the Hugging Face library's rules a token with the mark of a beginning
    /// cannot.
    continuations: Option<Trie>,
    unk: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
    rules: Rules,
}

/// Splits a text into words and appends their tokens.
struct Words<'a> {
    model: &'a WordPiece,
    out: &'a mut Vec<u32>,
    /// The word so far, after the mark of its beginning.
    word: String,
    /// Where the tokens of earlier words are in `out`.
    seen: HashMap<String, (usize, usize)>,
}

impl WordPiece {
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes]) -> Result<Self, TokenizeError> {
        let all = (0u32..).zip(&vocabulary.tokens).zip(attributes);
        let findable = all.filter(|(_, attributes)| attributes.is_ordinary()).map(|(token, _)| token);
        if let Some((id, text)) = findable.clone().find(|(_, text)| text.len() > LONGEST) {
            return Err(TokenizeError::LongToken { id, bytes: text.len(), limit: LONGEST });
        }
        let lowercase = vocabulary.lowercase.unwrap_or(true);
        let findable = findable.map(|(id, text)| (text.as_str(), id));
        let continuations = (vocabulary.rules == Rules::HuggingFace)
            .then(|| Trie::new(findable.clone().filter(|(text, _)| !text.starts_with(SPACE)).collect()));
        Ok(Self {
            tokens: Trie::new(findable.collect()),
            continuations,
            unk: vocabulary.unk,
            lowercase,
            strip_accents: vocabulary.strip_accents.unwrap_or(lowercase),
            rules: vocabulary.rules,
        })
    }

    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut words = Words { model: self, out, word: String::from(SPACE), seen: HashMap::new() };
        match self.rules {
            Rules::LlamaCpp => self.cut(text, &mut words),
            Rules::HuggingFace => self.cut_as_hugging_face(text, &mut words),
        }
        words.end();
    }

    fn cut(&self, text: &str, words: &mut Words<'_>) {
        for character in text.chars() {
            let character = if self.strip_accents { base(character) } else { character };
            let class = CharClass::of(character);
            if class.is_white_space() {
                words.end();
                continue;
            }
            let dropped = matches!(character, '\0' | char::REPLACEMENT_CHARACTER) || class.is_control();
            if dropped || (self.strip_accents && class.is_accent()) {
                continue;
            }
            let alone =
                class.is_punctuation() || (character < '\x7f' && class.is_symbol()) || is_chinese(character);
            if alone {
                words.end();
            }
            words.word.push(if self.lowercase { lower(character) } else { character });
            if alone {
                words.end();
            }
        }
    }

    /// Splits as the library's `BertNormalizer` and `BertPreTokenizer` do: control characters are removed, each Chinese
    /// character is a word, accents are stripped, and each punctuation character is a word.
    fn cut_as_hugging_face(&self, text: &str, words: &mut Words<'_>) {
        let clean = text.chars().filter(|c| !is_dropped(*c));
        if self.strip_accents {
            let spaced = clean.flat_map(spaced).nfd().map(|(c, _)| c);
            self.cut_clean(spaced.filter(|c| !c.is_mark_nonspacing()), words);
        } else {
            self.cut_clean(clean.flat_map(spaced), words);
        }
    }

    /// Splits characters that are already clean. Words end at white space and punctuation.
    fn cut_clean(&self, text: impl Iterator<Item = char>, words: &mut Words<'_>) {
        for character in text {
            if self.lowercase {
                character.to_lowercase().for_each(|c| words.take(c));
            } else {
                words.take(character);
            }
        }
    }

    /// Appends the tokens of a word that begins with its mark.
    fn word(&self, word: &str, out: &mut Vec<u32>) {
        let start = out.len();
        let mut rest = word.as_bytes();
        let too_long = self.rules == Rules::HuggingFace && word.chars().count() > 1 + LONGEST_WORD;
        let mut tokens = &self.tokens;
        while !rest.is_empty() {
            let Some((id, length)) = tokens.longest(rest).filter(|_| !too_long) else {
                out.truncate(start);
                out.extend(self.unk);
                return;
            };
            out.push(id);
            tokens = self.continuations.as_ref().unwrap_or(tokens);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

impl Words<'_> {
    /// Adds a clean character. White space ends a word; a punctuation character is a word of its own.
    fn take(&mut self, character: char) {
        if character.is_whitespace() {
            self.end();
        } else if character.is_ascii_punctuation() || character.is_punctuation() {
            self.end();
            self.word.push(character);
            self.end();
        } else {
            self.word.push(character);
        }
    }

    /// Ends the word, if it is not empty.
    fn end(&mut self) {
        if self.word.len() == SPACE.len_utf8() {
            return;
        }
        if let Some(&(from, to)) = self.seen.get(self.word.as_str()) {
            self.out.extend_from_within(from..to);
        } else {
            let start = self.out.len();
            self.model.word(&self.word, self.out);
            if self.word.len() <= REMEMBERED {
                self.seen.insert(self.word.clone(), (start, self.out.len()));
            }
        }
        self.word.truncate(SPACE.len_utf8());
    }
}

/// Returns true if the Hugging Face library removes the character: control characters, and characters that Unicode 8
/// leaves unassigned or for private use. Control characters that are white space stay.
fn is_dropped(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\0' | char::REPLACEMENT_CHARACTER => true,
        _ => character.is_other(),
    }
}

/// Returns the character, between spaces if it is Chinese.
fn spaced(character: char) -> impl Iterator<Item = char> {
    let space = is_chinese(character).then_some(' ');
    space.into_iter().chain([character]).chain(space)
}

/// Returns the first character of the canonical decomposition.
fn base(character: char) -> char {
    if character.is_ascii() {
        return character;
    }
    let mut first = None;
    unicode_normalization_alignments::char::decompose_canonical(character, |part| {
        first = first.or(Some(part));
    });
    first.unwrap_or(character)
}

/// Returns the first character of the lower-case mapping.
fn lower(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    character.to_lowercase().next().unwrap_or(character)
}

/// Returns true if the character is a word of its own, since Chinese is written without spaces. The ranges are those of
/// llama.cpp and of the Hugging Face library. Both begin one of them 256 characters late.
fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x2_0000..=0x2_a6df
            | 0x2_a700..=0x2_b73f
            | 0x2_b740..=0x2_b81f
            | 0x2_b920..=0x2_ceaf
            | 0xf900..=0xfaff
            | 0x2_f800..=0x2_fa1f
    )
}
