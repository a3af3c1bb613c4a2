//! Python's classes and mappings of characters.

use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// White space as in Python's `str.isspace`, which includes the information separators.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Ranges of characters, ascending.
type Ranges = Vec<(char, char)>;

fn class(expression: &str) -> Ranges {
    let parsed = regex_syntax::parse(expression).map(regex_syntax::hir::Hir::into_kind);
    match parsed {
        Ok(HirKind::Class(Class::Unicode(set))) => {
            set.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        _ => Ranges::new(),
    }
}

static LETTERS: LazyLock<Ranges> = LazyLock::new(|| class(r"\p{L}"));
static DECIMALS: LazyLock<Ranges> = LazyLock::new(|| class(r"\p{Nd}"));
static NUMBERS: LazyLock<Ranges> = LazyLock::new(|| class(r"\p{N}"));
/// Controls, formats, surrogates, private use, unassigned, and separators except the space.
static UNPRINTABLE: LazyLock<Ranges> = LazyLock::new(|| class(r"[\p{C}\p{Z}&&[^ ]]"));

fn holds(ranges: &Ranges, character: char) -> bool {
    let at = ranges.partition_point(|(_, end)| *end < character);
    ranges.get(at).is_some_and(|(start, _)| *start <= character)
}

pub(super) fn is_alpha(character: char) -> bool {
    if character.is_ascii() { character.is_ascii_alphabetic() } else { holds(&LETTERS, character) }
}

pub(super) fn is_decimal(character: char) -> bool {
    if character.is_ascii() { character.is_ascii_digit() } else { holds(&DECIMALS, character) }
}

/// Decimal digits, superscript and subscript digits, and digits in circles.
pub(super) fn is_digit(character: char) -> bool {
    is_decimal(character)
        || matches!(character,
            '\u{b2}' | '\u{b3}' | '\u{b9}' | '\u{1369}'..='\u{1371}' | '\u{19da}' | '\u{2070}' | '\u{2074}'..='\u{2079}'
            | '\u{2080}'..='\u{2089}' | '\u{2460}'..='\u{2468}' | '\u{2474}'..='\u{247c}' | '\u{2488}'..='\u{2490}'
            | '\u{24ea}' | '\u{24f5}'..='\u{24fd}' | '\u{24ff}' | '\u{2776}'..='\u{277e}' | '\u{2780}'..='\u{2788}'
            | '\u{278a}'..='\u{2792}' | '\u{10a40}'..='\u{10a43}' | '\u{10e60}'..='\u{10e68}'
            | '\u{11052}'..='\u{1105a}' | '\u{1f100}'..='\u{1f10a}')
}

pub(super) fn is_numeric(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_digit();
    }
    holds(&NUMBERS, character)
        || matches!(
            character,
            '一' | '二'
                | '三'
                | '四'
                | '五'
                | '六'
                | '七'
                | '八'
                | '九'
                | '十'
                | '百'
                | '千'
                | '万'
                | '億'
                | '兆'
                | '零'
                | '〇'
        )
}

pub(super) fn is_alphanumeric(character: char) -> bool {
    is_alpha(character) || is_decimal(character) || is_digit(character) || is_numeric(character)
}

pub(super) fn is_printable(character: char) -> bool {
    if character.is_ascii() { !character.is_ascii_control() } else { !holds(&UNPRINTABLE, character) }
}

/// Returns the value of a decimal digit of any script. The digits of a script are ten consecutive characters.
pub(super) fn digit_value(character: char) -> Option<u32> {
    if let Some(value) = character.to_digit(10) {
        return Some(value);
    }
    let at = DECIMALS.partition_point(|(_, end)| *end < character);
    let (start, _) = DECIMALS.get(at).filter(|(start, _)| *start <= character)?;
    Some((u32::from(character) - u32::from(*start)) % 10)
}

/// Converts a character to title case.
pub(super) fn title(character: char) -> String {
    match character {
        'ǆ' | 'ǅ' | 'Ǆ' => "ǅ".to_owned(),
        'ǉ' | 'ǈ' | 'Ǉ' => "ǈ".to_owned(),
        'ǌ' | 'ǋ' | 'Ǌ' => "ǋ".to_owned(),
        'ǳ' | 'ǲ' | 'Ǳ' => "ǲ".to_owned(),
        // Georgian has no title case.
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => character.to_string(),
        _ => {
            let mut upper = character.to_uppercase();
            let first = upper.next().unwrap_or(character);
            std::iter::once(first).chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

/// Converts the first character to title case and the others to lower case.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => title(first) + &lower_after(first, characters.as_str()),
        None => String::new(),
    }
}

/// Converts the text after a character to lower case. The character decides the form of a following sigma.
fn lower_after(before: char, text: &str) -> String {
    let mut whole = String::from(before);
    whole.push_str(text);
    let lower = whole.to_lowercase();
    let head: usize = before.to_lowercase().map(char::len_utf8).sum();
    lower.get(head..).unwrap_or_default().to_owned()
}

/// Returns true if Python's `str.splitlines` ends a line at this character.
pub(super) fn ends_line(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Splits a text into lines, with their line ends if `ends`.
pub(super) fn lines(text: &str, ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if !ends_line(character) {
            continue;
        }
        let mut end = at + character.len_utf8();
        if character == '\r' && characters.next_if(|(_, next)| *next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[start..if ends { end } else { at }]);
        start = end;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

/// Converts characters to upper case and then to lower case, except the dotless i.
pub(super) fn casefold(text: &str) -> String {
    let fold = |character: char| match character {
        'ı' => character.to_string(),
        _ => character.to_uppercase().flat_map(char::to_lowercase).collect(),
    };
    text.chars().map(fold).collect()
}

pub(super) fn swapcase(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            if character.is_uppercase() {
                character.to_lowercase().collect::<Vec<_>>()
            } else if character.is_lowercase() {
                character.to_uppercase().collect()
            } else {
                vec![character]
            }
        })
        .collect()
}

fn has_case(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase() || matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

pub(super) fn title_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.push_str(&title(character));
        }
        inside = has_case(character);
    }
    out
}

pub(super) fn is_title(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for character in text.chars() {
        if character.is_uppercase() || matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ') {
            if inside {
                return false;
            }
            (inside, any) = (true, true);
        } else if character.is_lowercase() {
            if !inside {
                return false;
            }
        } else {
            inside = false;
        }
    }
    any
}

/// Returns true if a text has letters of one case and none of the other.
pub(super) fn is_cased(text: &str, wanted: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    let title = |character: char| matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ');
    text.chars().any(wanted) && !text.chars().any(|character| other(character) || title(character))
}
