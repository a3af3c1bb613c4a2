//! Stop strings in a streamed text.
//!
//! Each stop string has one matcher after Knuth, Morris and Pratt ("Fast pattern matching in strings", 1977). Its state
//! is the length of the longest prefix of the stop string that the text so far ends with. The longest state is the
//! number of bytes to hold back. So the result does not depend on how the text is split into pieces, and the time is
//! linear in the text.

use crate::error::TokenizeError;

/// The result of adding a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed<'a> {
    /// Text that can be shown. None of it belongs to a stop string.
    pub text: &'a str,
    /// The stop string that has ended the text, as an index into the list.
    pub matched: Option<usize>,
}

/// Finds stop strings in one streamed text. The first stop string to be complete ends the text. If two are complete at
/// the same position, the longer one counts.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    matchers: Vec<Matcher>,
    /// Text held back because it may be the beginning of a stop string.
    held: String,
    /// The text returned by the last call.
    shown: String,
    matched: Option<usize>,
}

#[derive(Debug, Clone)]
struct Matcher {
    pattern: Vec<u8>,
    /// For each prefix length, the length of the longest proper prefix that the prefix also ends with.
    borders: Vec<usize>,
    state: usize,
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes().to_vec();
        let mut borders = vec![0; pattern.len() + 1];
        let mut border = 0;
        for length in 2..=pattern.len() {
            while border > 0 && pattern[border] != pattern[length - 1] {
                border = borders[border];
            }
            border += usize::from(pattern[border] == pattern[length - 1]);
            borders[length] = border;
        }
        Self { pattern, borders, state: 0 }
    }

    /// Consumes one byte. Returns true if the pattern is complete.
    fn step(&mut self, byte: u8) -> bool {
        if self.state == self.pattern.len() {
            self.state = self.borders[self.state];
        }
        while self.state > 0 && self.pattern[self.state] != byte {
            self.state = self.borders[self.state];
        }
        self.state += usize::from(self.pattern[self.state] == byte);
        self.state == self.pattern.len()
    }
}

impl StopStrings {
    /// Starts a text that ends at any of `strings`.
    ///
    /// # Errors
    /// One of the strings is empty.
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<Self, TokenizeError> {
        if let Some(index) = strings.iter().position(|string| string.as_ref().is_empty()) {
            return Err(TokenizeError::EmptyStopString { index });
        }
        let matchers = strings.iter().map(|string| Matcher::new(string.as_ref())).collect();
        Ok(Self { matchers, ..Self::default() })
    }

    /// Adds a piece of text. After a match the text returned is always empty.
    pub fn push(&mut self, text: &str) -> Streamed<'_> {
        self.shown.clear();
        if self.matched.is_some() {
            return Streamed { text: "", matched: self.matched };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None;
            for (index, matcher) in self.matchers.iter_mut().enumerate() {
                let length = matcher.pattern.len();
                if matcher.step(byte) && longest.is_none_or(|(best, _)| length > best) {
                    longest = Some((length, index));
                }
            }
            if let Some((length, index)) = longest {
                self.matched = Some(index);
                self.held.truncate((before + at + 1).saturating_sub(length));
                std::mem::swap(&mut self.held, &mut self.shown);
                return Streamed { text: &self.shown, matched: self.matched };
            }
        }
        let hold = self.matchers.iter().map(|matcher| matcher.state).max().unwrap_or(0);
        let show = self.held.len().saturating_sub(hold);
        // The held text starts at a character boundary, since stop strings and texts are both UTF-8.
        self.shown.push_str(self.held.get(..show).unwrap_or_default());
        self.held.drain(..self.shown.len());
        Streamed { text: &self.shown, matched: None }
    }

    /// Ends the text and returns the text held back, if no stop string was completed. Another text can then be started.
    pub fn finish(&mut self) -> &str {
        for matcher in &mut self.matchers {
            matcher.state = 0;
        }
        self.matched = None;
        self.shown.clear();
        std::mem::swap(&mut self.held, &mut self.shown);
        &self.shown
    }

    /// Returns the stop string that has ended the text, as an index into the list.
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams `text` in pieces of `size` characters. Returns the whole text shown and the match.
    fn stream(stops: &[&str], text: &str, size: usize) -> (String, Option<usize>) {
        let mut stop = StopStrings::new(stops).unwrap();
        let mut shown = String::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(size) {
            let streamed = stop.push(&piece.iter().collect::<String>());
            shown.push_str(streamed.text);
        }
        let matched = stop.matched();
        shown.push_str(stop.finish());
        (shown, matched)
    }

    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let cases: &[(&[&str], &str, &str, Option<usize>)] = &[
            (&["</s>"], "a</s>b", "a", Some(0)),
            (&["</s>"], "a</s", "a</s", None),
            (&["aab"], "aaab", "a", Some(0)),
            (&["abcde", "bcd"], "abcde", "a", Some(1)),
            (&["cd", "abcd"], "xabcd", "x", Some(1)),
            (&["日本"], "今日日本語", "今日", Some(0)),
            (&["é!"], "caféé!", "café", Some(0)),
            (&[], "plain", "plain", None),
            (&["abab"], "abaabab", "aba", Some(0)),
        ];
        for (stops, text, shown, matched) in cases {
            for size in 1..=text.len() {
                assert_eq!(
                    stream(stops, text, size),
                    (shown.to_string(), *matched),
                    "{stops:?} {text} {size}"
                );
            }
        }
    }

    #[test]
    fn text_is_held_only_while_it_may_be_a_stop_string() {
        let mut stop = StopStrings::new(&["\n\nUser:"]).unwrap();
        assert_eq!(stop.push("Hi\n").text, "Hi");
        assert_eq!(stop.push("\nU").text, "");
        assert_eq!(stop.push("p").text, "\n\nUp");
        assert_eq!(StopStrings::new(&["a", ""]).unwrap_err(), TokenizeError::EmptyStopString { index: 1 });
    }
}
