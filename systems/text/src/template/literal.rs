//! Keeps text from users literal in a rendered conversation: none of it can become a control token.
//!
//! A template joins its own control tokens and the messages' text into one text. A `<|im_end|>` in it may come from
//! either. So before the template runs, texts of control tokens in its input are replaced by stand-ins: a number
//! between two noncharacters of Unicode. After rendering the texts are put back. Their positions are then known, and no
//! control token may overlap them.
//!
//! The beginning of a control token's text at the end of a string is replaced as well, since a template can print two
//! strings side by side. A template that deletes a part of a string can join the text on both sides of it. Against
//! that, every character that a control token begins with is replaced, provided that the template prints the same text
//! then. A template that searches for such characters prints another text.

use crate::rendered::Rendered;
use crate::tokenizer::Tokenizer;
use serde_json::Value;
use std::ops::Range;

/// Encloses the number of a stand-in, together with [`CLOSE`]. Noncharacters have no meaning in any text. Those in the
/// input are themselves replaced by stand-ins.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// The texts replaced during one rendering. Stand-in `n` stands for `texts[n]`.
pub(super) struct StandIns<'t> {
    tokenizer: &'t Tokenizer,
    /// Whether every character that a control token begins with is replaced, wherever it occurs.
    all_beginnings: bool,
    texts: Vec<String>,
}

impl<'t> StandIns<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, all_beginnings: bool) -> Self {
        Self { tokenizer, all_beginnings, texts: Vec::new() }
    }

    /// Returns true if nothing has been replaced.
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Replaces every text that could be read as a control token, in all strings of a value including the names of
    /// fields.
    pub(super) fn replace_all(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.replace(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_all(item)),
            Value::Object(entries) => {
                let old = std::mem::take(entries);
                for (mut name, mut item) in old {
                    self.replace(&mut name);
                    self.replace_all(&mut item);
                    entries.insert(name, item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn replace(&mut self, text: &mut String) {
        let ranges = self.forged(text);
        if ranges.is_empty() {
            return;
        }
        let (mut new, mut done) = (String::with_capacity(text.len() + 8 * ranges.len()), 0);
        for range in ranges {
            new.push_str(&text[done..range.start]);
            new.push(OPEN);
            new.push_str(&self.texts.len().to_string());
            new.push(CLOSE);
            self.texts.push(text[range.clone()].to_owned());
            done = range.end;
        }
        new.push_str(&text[done..]);
        *text = new;
    }

    /// Returns the ranges of a text to replace, ascending and without overlap.
    fn forged(&self, text: &str) -> Vec<Range<usize>> {
        let mut ranges = self.tokenizer.control_texts(text);
        ranges.extend(
            text.char_indices()
                .filter(|(_, c)| {
                    matches!(*c, OPEN | CLOSE) || self.all_beginnings && self.tokenizer.begins_control(*c)
                })
                .map(|(at, c)| at..at + c.len_utf8()),
        );
        // Templates trim strings, so text before trailing white space can end up at the end.
        ranges.extend(self.tokenizer.control_prefix(text.trim_end()));
        ranges.extend(self.tokenizer.control_prefix(text));
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// Puts the texts back into the output of a template. A stand-in that the template has taken apart stays in the
    /// text.
    pub(super) fn restore(&self, rendered: &str) -> Rendered {
        let mut out = Rendered { text: String::with_capacity(rendered.len()), literal: Vec::new() };
        let mut rest = rendered;
        while let Some(open) = rest.find(OPEN) {
            let (before, from) = rest.split_at(open);
            out.text.push_str(before);
            let inner = &from[OPEN.len_utf8()..];
            let found = inner
                .split_once(CLOSE)
                .and_then(|(number, after)| Some((self.texts.get(number.parse::<usize>().ok()?)?, after)));
            match found {
                Some((text, after)) => {
                    let start = out.text.len();
                    out.text.push_str(text);
                    out.literal.push(start..out.text.len());
                    rest = after;
                }
                None => {
                    out.text.push(OPEN);
                    rest = inner;
                }
            }
        }
        out.text.push_str(rest);
        out
    }
}
