//! Special tokens: which tokens are special, which of them end generation, and where they occur in a text.
//!
//! Many vocabularies lack the metadata for this, so the texts that model makers use for such tokens are consulted as
//! well, as in llama.cpp: [`ROLES`] and [`END_OF_GENERATION`].

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::TokenizeError;
use crate::vocabulary::{Rules, TokenType, Vocabulary};

/// How a token is treated. A token is both user-defined and control if its file declares it user-defined and its text
/// is that of a control token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub normal: bool,
    pub control: bool,
    pub user_defined: bool,
    pub unknown: bool,
    pub byte: bool,
    pub unused: bool,
}

impl Attributes {
    fn new(kind: TokenType) -> Self {
        Self {
            normal: kind == TokenType::Normal,
            control: kind == TokenType::Control,
            user_defined: kind == TokenType::UserDefined,
            unknown: kind == TokenType::Unknown,
            byte: kind == TokenType::Byte,
            unused: kind == TokenType::Unused,
        }
    }

    const NONE: Self = Self {
        normal: false,
        control: false,
        user_defined: false,
        unknown: false,
        byte: false,
        unused: false,
    };
    const USER_DEFINED: Self = Self { user_defined: true, ..Self::NONE };
    const NORMAL: Self = Self { normal: true, ..Self::NONE };

    /// Returns true if the token is searched for only when special tokens are parsed, and shown only on request.
    pub(super) fn is_hidden(self) -> bool {
        self.control || self.unknown
    }

    /// Returns true if text without special tokens can become this token. Control tokens are excluded so that a user's
    /// text cannot become one, and byte tokens so that text cannot become a byte that it does not contain.
    pub(super) fn is_ordinary(self) -> bool {
        !self.is_hidden() && !self.byte
    }

    /// Returns true if the token is searched for in a text as a whole.
    pub(super) fn is_special(self) -> bool {
        self.control || self.unknown || self.user_defined
    }
}

/// A role of a token: the metadata that names the token, and the texts that identify it if the metadata does not.
struct Role {
    given: fn(&Vocabulary) -> Option<u32>,
    ends_generation: bool,
    texts: &'static [&'static str],
}

const ROLES: &[Role] = &[
    Role {
        given: |v| v.eot,
        ends_generation: true,
        texts: &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
    },
    Role { given: |v| v.eom, ends_generation: true, texts: &["<|eom_id|>"] },
    Role {
        given: |v| v.fim_pre,
        ends_generation: false,
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    },
    Role {
        given: |v| v.fim_suf,
        ends_generation: false,
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    },
    Role {
        given: |v| v.fim_mid,
        ends_generation: false,
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    },
    Role {
        given: |v| v.fim_pad,
        ends_generation: true,
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    },
    Role {
        given: |v| v.fim_rep,
        ends_generation: true,
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    },
    Role { given: |v| v.fim_sep, ends_generation: true, texts: &["<|file_sep|>"] },
];

/// Texts of tokens that end generation in every vocabulary that has them.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens of gpt-oss that a program reading its answers must see.
const ALWAYS_SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Pairs of texts that identify vocabularies in which `<|end|>` ends a message, not the answer.
const END_IS_NO_END: &[[&[&str]; 2]] =
    &[[&["<|return|>"], &["<|call|>", "<|calls|>"]], [&["<|flush|>"], &["<|call|>", "<|calls|>"]]];

/// Returns the attributes of every token, and the ids that end generation in ascending order.
pub(super) fn classify(
    vocabulary: &Vocabulary,
    token_to_id: impl Fn(&str) -> Option<u32>,
) -> (Vec<Attributes>, Vec<u32>) {
    let mut attributes: Vec<Attributes> = if vocabulary.token_types.is_empty() {
        vec![Attributes::NORMAL; vocabulary.tokens.len()]
    } else {
        let types = vocabulary.token_types.iter().take(vocabulary.tokens.len());
        types.map(|&kind| Attributes::new(TokenType::from_gguf(kind))).collect()
    };
    let mut set = |id: u32, change: &dyn Fn(&mut Attributes)| {
        if let Some(attributes) = attributes.get_mut(id as usize) {
            change(attributes);
        }
    };
    let mut ends = BTreeSet::new();
    ends.extend([vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten());
    ends.extend(&vocabulary.ends);

    for role in ROLES {
        let id = (role.given)(vocabulary).or_else(|| {
            // If several tokens match, the lowest id is chosen. The choice matters for fill-in-the-middle only.
            let id = role.texts.iter().filter_map(|text| token_to_id(text)).min()?;
            set(id, &|attributes| attributes.control = true);
            Some(id)
        });
        if role.ends_generation {
            ends.extend(id);
        }
    }
    for id in END_OF_GENERATION.iter().filter_map(|text| token_to_id(text)) {
        set(id, &|attributes| attributes.control = true);
        ends.insert(id);
    }
    for id in ALWAYS_SHOWN.iter().filter_map(|text| token_to_id(text)) {
        set(id, &|attributes| *attributes = Attributes::USER_DEFINED);
    }

    let is_end = |text: &&str| token_to_id(text).is_some_and(|id| ends.contains(&id));
    let no_end = END_IS_NO_END.iter().any(|pair| pair.iter().all(|texts| texts.iter().any(is_end)));
    let no_close = is_end(&"<|tool_response>");
    if let Some(id) = token_to_id("<|end|>").filter(|_| no_end) {
        ends.remove(&id);
        set(id, &|attributes| *attributes = Attributes::USER_DEFINED);
    }
    if let Some(id) = token_to_id("</s>").filter(|_| no_close) {
        ends.remove(&id);
        set(id, &|attributes| *attributes = Attributes::NORMAL);
    }
    (attributes, ends.into_iter().collect())
}

/// A part of a text: a special token, or text to tokenize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fragment {
    /// A byte range of the text.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// Finds the special tokens of a vocabulary in a text.
#[derive(Debug)]
pub(super) struct SpecialTokenFinder {
    /// Longest first; among equals the lowest id first.
    tokens: Vec<SpecialToken>,
    /// Finds which of `tokens` occur, in one pass over a text.
    presence: Option<AhoCorasick>,
    /// Texts of the tokens that are found only on request, sorted.
    hidden: Vec<String>,
    /// Length of the longest of them in bytes.
    longest_hidden: usize,
}

/// Which tokens to find besides user-defined ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// None.
    Shown,
    /// Control tokens that overlap none of these ranges, which must be ascending.
    Outside(&'a [Range<usize>]),
}

#[derive(Debug)]
struct SpecialToken {
    id: u32,
    hidden: bool,
    /// Whether the token swallows the white space before it (`lstrip`) and after it (`rstrip`).
    lstrip: bool,
    rstrip: bool,
    is_space: fn(char) -> bool,
    finder: Finder<'static>,
}

impl SpecialTokenFinder {
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes]) -> Result<Self, TokenizeError> {
        let mut special: Vec<SpecialToken> = (0u32..)
            .zip(vocabulary.tokens.iter().zip(attributes))
            .filter(|(_, (text, attributes))| attributes.is_special() && !text.is_empty())
            .map(|(id, (text, attributes))| SpecialToken {
                id,
                hidden: attributes.is_hidden(),
                lstrip: vocabulary.lstrip.binary_search(&id).is_ok(),
                rstrip: vocabulary.rstrip.binary_search(&id).is_ok(),
                is_space: if vocabulary.rules == Rules::HuggingFace {
                    char::is_whitespace
                } else {
                    is_c_space
                },
                finder: Finder::new(text.as_bytes()).into_owned(),
            })
            .collect();
        special.sort_by_key(|token| (std::cmp::Reverse(token.finder.needle().len()), token.id));
        let presence = if special.is_empty() {
            None
        } else {
            let built = AhoCorasick::new(special.iter().map(|token| token.finder.needle()));
            Some(built.map_err(|error| TokenizeError::SpecialTokens { reason: error.to_string() })?)
        };
        let texts = vocabulary.tokens.iter().zip(attributes).filter(|(_, attributes)| attributes.is_hidden());
        let mut hidden: Vec<String> =
            texts.map(|(text, _)| text.clone()).filter(|text| !text.is_empty()).collect();
        hidden.sort_unstable();
        let longest_hidden = hidden.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { tokens: special, presence, hidden, longest_hidden })
    }

    /// Returns every occurrence of a control token's text, overlapping ones included, ordered by their ends.
    pub(super) fn hidden_texts(&self, text: &str) -> Vec<Range<usize>> {
        let Some(presence) = &self.presence else { return Vec::new() };
        let found = presence.find_overlapping_iter(text);
        found
            .filter(|found| self.tokens[found.pattern().as_usize()].hidden)
            .map(|found| found.range())
            .collect()
    }

    /// Returns true if a control token's text begins with this character.
    pub(super) fn begins_hidden(&self, character: char) -> bool {
        let mut encoded = [0; 4];
        let beginning = &*character.encode_utf8(&mut encoded);
        let first = self.hidden.partition_point(|token| token.as_str() < beginning);
        self.hidden.get(first).is_some_and(|token| token.starts_with(beginning))
    }

    /// Returns the longest suffix of `text` that is a proper prefix of a control token's text.
    pub(super) fn hidden_prefix(&self, text: &str) -> Option<Range<usize>> {
        let from = text.len().saturating_sub(self.longest_hidden.saturating_sub(1));
        let mut starts = (from..text.len()).filter(|at| text.is_char_boundary(*at));
        let begins = |at: &usize| {
            let end = &text[*at..];
            let first = self.hidden.partition_point(|token| token.as_str() <= end);
            self.hidden.get(first).is_some_and(|token| token.starts_with(end))
        };
        starts.find(begins).map(|at| at..text.len())
    }

    /// Splits `text` at its special tokens: at all occurrences of the longest token first, then at those of the next
    /// one in the remaining text. User-defined tokens are always found, the others as `wanted` specifies.
    pub(super) fn partition(&self, text: &str, wanted: Wanted<'_>) -> Vec<Fragment> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut fragments = vec![Fragment::Text(0..text.len())];
        let Some(presence) = &self.presence else {
            return fragments;
        };

        let mut present = vec![false; self.tokens.len()];
        let mut missing = present.len();
        for found in presence.find_overlapping_iter(text) {
            let seen = &mut present[found.pattern().as_usize()];
            missing -= usize::from(!*seen);
            *seen = true;
            if missing == 0 {
                break;
            }
        }
        for (token, _) in self.tokens.iter().zip(present).filter(|(_, present)| *present) {
            let literal = match (token.hidden, wanted) {
                (true, Wanted::Shown) => continue,
                (true, Wanted::Outside(ranges)) => ranges,
                (false, _) => &[],
            };
            let mut finer = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => token.cut(text, range, literal, &mut finer),
                    Fragment::Token(_) => finer.push(fragment),
                }
            }
            fragments = finer;
        }
        fragments
    }
}

impl SpecialToken {
    /// Splits one range of text at every occurrence of this token that overlaps none of the ranges `literal`.
    fn cut(&self, text: &str, range: Range<usize>, literal: &[Range<usize>], out: &mut Vec<Fragment>) {
        let bytes = &text.as_bytes()[range.clone()];
        let length = self.finder.needle().len();
        let (mut done, mut from) = (0, 0);
        while let Some(at) = bytes.get(from..).and_then(|rest| self.finder.find(rest)).map(|at| from + at) {
            let (start, end) = (range.start + at, range.start + at + length);
            let next = literal.partition_point(|literal| literal.end <= start);
            if literal.get(next).is_some_and(|literal| literal.start < end) {
                from = at + 1;
                continue;
            }
            let mut before = at;
            if self.lstrip {
                let text = &text[range.start + done..start];
                before = done + text.trim_end_matches(self.is_space).len();
            }
            if before > done {
                out.push(Fragment::Text(range.start + done..range.start + before));
            }
            out.push(Fragment::Token(self.id));
            done = at + length;
            if self.rstrip {
                let text = &text[end..range.end];
                done += text.len() - text.trim_start_matches(self.is_space).len();
            }
            from = done;
        }
        if done < bytes.len() {
            out.push(Fragment::Text(range.start + done..range.end));
        }
    }
}

/// Returns true for white space as defined by C's `isspace`, which llama.cpp uses.
fn is_c_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}
