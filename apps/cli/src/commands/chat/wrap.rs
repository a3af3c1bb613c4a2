//! Wraps text at words as it streams.
//!
//! Prose is written word by word. A word that does not fit goes to the next line, indented like its list item. A word
//! longer than a line is left to the terminal's own wrapping, which keeps it in one piece when it is copied. Code
//! blocks and tables are written unchanged. A word is held back until it is complete, and a line until its first
//! characters tell what it is.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Joins the characters on both sides into one.
const ZERO_WIDTH_JOINER: char = '\u{200d}';
/// Minimum length of a code block's fence.
const FENCE: usize = 3;
/// Spaces before a line that make it code, outside a list.
const CODE_INDENT: usize = 4;

/// The kind of the current line, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// Not known yet: its first characters are in `Wrap::start`.
    #[default]
    Unknown,
    Prose,
    /// Written unchanged.
    Verbatim,
}

/// State of a text that is being wrapped.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrap {
    line: Line,
    /// The text so far of a line that is not prose; its first characters identify fences.
    start: String,
    /// Character and length of the fence that closes the open code block.
    fence: Option<(char, usize)>,
    /// White space held back before `word`.
    gap: String,
    /// The incomplete current word.
    word: String,
    /// True if that word is longer than a line and is therefore written unchanged.
    run_on: bool,
    /// Columns used on the terminal's current line.
    column: usize,
    /// Indentation in columns of wrapped lines in this paragraph.
    indent: usize,
    /// True inside a list, where indented lines are not code.
    list: bool,
    /// True if an indented line would be code: the line before was empty, or code itself.
    after_blank: bool,
}

impl Wrap {
    /// Starts a text.
    pub(super) fn new() -> Self {
        Self { after_blank: true, ..Self::default() }
    }

    /// Takes a piece of text. Returns what can be written so far to a terminal of `width` columns.
    pub(super) fn push(&mut self, text: &str, width: usize) -> String {
        let width = width.max(2);
        let mut out = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            match c {
                '\n' => self.end_line(width, &mut out),
                '\r' => {}
                // The model's text must not control the terminal.
                c if c.is_control() && c != '\t' => self.character('\u{fffd}', width, &mut out),
                c => self.character(c, width, &mut out),
            }
        }
        out
    }

    /// Returns what was held back at the end of the text.
    pub(super) fn finish(&mut self, width: usize) -> String {
        let mut out = String::new();
        self.settle(width.max(2), &mut out);
        self.place(width.max(2), &mut out);
        out
    }

    fn character(&mut self, c: char, width: usize, out: &mut String) {
        match self.line {
            Line::Prose => self.prose(c, width, out),
            Line::Verbatim => {
                self.start.push(c);
                out.push(c);
            }
            Line::Unknown => {
                self.start.push(c);
                if let Some(kind) = self.kind() {
                    self.begin(kind, width, out);
                }
            }
        }
    }

    /// Returns the kind of the line, if its first characters decide it.
    fn kind(&self) -> Option<Line> {
        let body = self.start.trim_start_matches([' ', '\t']);
        let first = body.chars().next()?;
        let run = body.chars().take_while(|c| *c == first).count();
        if matches!(first, '`' | '~') && run == body.chars().count() && run < FENCE {
            return None;
        }
        if self.fence.is_some() || is_fence(first, run) || first == '|' {
            return Some(Line::Verbatim);
        }
        let lead = self.start.len() - body.len();
        let deep = lead >= CODE_INDENT || self.start[..lead].contains('\t');
        Some(if deep && !self.list && self.after_blank { Line::Verbatim } else { Line::Prose })
    }

    /// Writes the held-back part of a line of this kind.
    fn begin(&mut self, kind: Line, width: usize, out: &mut String) {
        self.line = kind;
        match kind {
            Line::Verbatim => out.push_str(&self.start),
            Line::Prose | Line::Unknown => {
                let start = std::mem::take(&mut self.start);
                start.chars().for_each(|c| self.prose(c, width, out));
            }
        }
    }

    /// Decides the kind of a line that ended before its first characters could.
    fn settle(&mut self, width: usize, out: &mut String) {
        if self.line == Line::Unknown && !self.start.trim().is_empty() {
            let kind = if self.fence.is_some() { Line::Verbatim } else { Line::Prose };
            self.begin(kind, width, out);
        }
    }

    fn prose(&mut self, c: char, width: usize, out: &mut String) {
        if c.is_whitespace() && c != '\u{a0}' {
            self.place(width, out);
            self.run_on = false;
            self.gap.push(if c == '\t' { ' ' } else { c });
            return;
        }
        if self.run_on {
            self.advance(c.width().unwrap_or(0), width);
            out.push(c);
            return;
        }
        if breaks_before(&self.word, c) {
            self.place(width, out);
        }
        self.word.push(c);
        if self.word.width() > width {
            self.place(width, out);
            self.run_on = true;
        }
    }

    /// Counts written columns. What exceeds the line was wrapped by the terminal.
    fn advance(&mut self, columns: usize, width: usize) {
        self.column += columns;
        if self.column > width {
            self.column = (self.column - 1) % width + 1;
        }
    }

    /// Writes the current word, on this line or the next.
    fn place(&mut self, width: usize, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (gap, word) = (self.gap.width(), self.word.width());
        if self.column == 0 {
            self.first_word(gap, word, width);
        } else if self.column + gap + word > width {
            out.push('\n');
            self.gap = " ".repeat(self.indent);
            self.column = 0;
        }
        out.push_str(&self.gap);
        out.push_str(&self.word);
        self.advance(self.gap.width() + word, width);
        self.gap.clear();
        self.word.clear();
    }

    /// Checks if a line's first word marks a list item, and if so indents what follows.
    fn first_word(&mut self, gap: usize, word: usize, width: usize) {
        let marks = is_list_mark(&self.word);
        if marks {
            self.list = true;
        } else if gap == 0 && self.after_blank {
            self.list = false;
        }
        let indent = if marks { gap + word + 1 } else { gap };
        self.indent = if indent > width / 2 { 0 } else { indent };
    }

    fn end_line(&mut self, width: usize, out: &mut String) {
        self.settle(width, out);
        self.place(width, out);
        self.run_on = false;
        out.push('\n');
        let blank = self.line == Line::Unknown;
        let code = self.line == Line::Verbatim;
        if code {
            self.pass_fence();
        }
        self.after_blank = blank || code;
        self.line = Line::Unknown;
        self.start.clear();
        self.gap.clear();
        (self.column, self.indent) = (0, 0);
    }

    /// Opens or closes a code block if the line that just ended is a fence.
    fn pass_fence(&mut self) {
        let body = self.start.trim();
        let Some(first) = body.chars().next() else { return };
        let run = body.chars().take_while(|c| *c == first).count();
        let rest = body.get(run * first.len_utf8()..).unwrap_or_default();
        match self.fence {
            Some((c, length)) if first == c && run >= length && rest.is_empty() => self.fence = None,
            // Text after backticks that contains a backtick makes it inline code.
            None if is_fence(first, run) && !(first == '`' && rest.contains('`')) => {
                self.fence = Some((first, run));
            }
            _ => {}
        }
    }
}

/// Returns true if a line may break between a word and the character after it. That is so next to wide characters,
/// which are written without spaces.
fn breaks_before(word: &str, c: char) -> bool {
    let Some(last) = word.chars().next_back() else { return false };
    let columns = |c: char| c.width().unwrap_or(0);
    if last == ZERO_WIDTH_JOINER || columns(c) == 0 || c.is_ascii_punctuation() {
        return false;
    }
    let wide = columns(c) == 2 || word.width() == 2 && columns(first_visible(word)) == 2;
    wide && !is_wide_closing(c)
}

fn first_visible(word: &str) -> char {
    word.chars().next().unwrap_or(' ')
}

/// Returns true for wide punctuation that must not begin a line.
fn is_wide_closing(c: char) -> bool {
    "、。，．：；！？）」』】》〉〕".contains(c)
}

fn is_fence(first: char, run: usize) -> bool {
    matches!(first, '`' | '~') && run >= FENCE
}

/// Returns true if a line's first word marks a list item: a bullet, or a number with a point.
fn is_list_mark(word: &str) -> bool {
    let number = word.strip_suffix(['.', ')']);
    matches!(word, "-" | "*" | "+" | "•")
        || number.is_some_and(|number| {
            !number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps a text in one piece, and asserts that pushing it character by character gives the same.
    fn wrapped(text: &str, width: usize) -> String {
        let of = |pieces: &mut dyn Iterator<Item = &str>| {
            let mut wrap = Wrap::new();
            let mut out: String = pieces.map(|piece| wrap.push(piece, width)).collect();
            out.push_str(&wrap.finish(width));
            out
        };
        let whole = of(&mut std::iter::once(text));
        let ends = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
        assert_eq!(whole, of(&mut ends.into_iter()), "{text:?}");
        whole
    }

    #[test]
    fn words_that_do_not_fit_go_to_the_next_line() {
        assert_eq!(wrapped("one two three four", 9), "one two\nthree\nfour");
        assert_eq!(wrapped("one two three", 80), "one two three");
        assert_eq!(wrapped("12345 789 1", 9), "12345 789\n1", "a full line stays");
        assert_eq!(wrapped("a\n\nb  c \nd", 9), "a\n\nb  c\nd");
        assert_eq!(wrapped("", 9), "");
        assert_eq!(wrapped("\n", 9), "\n");
    }

    #[test]
    fn long_words_stay_whole() {
        let url = "https://example.org/a/long/path";
        assert_eq!(wrapped(&format!("see {url} now"), 10), format!("see\n{url} now"));
        assert_eq!(wrapped(&format!("see {url}45678901 x"), 10), format!("see\n{url}45678901\nx"));
    }

    #[test]
    fn a_word_that_fits_no_line_is_written_as_it_comes() {
        let mut wrap = Wrap::new();
        assert_eq!(wrap.push("see aaaaa", 8), "see");
        assert_eq!(wrap.push("aaaaa", 8), "\naaaaaaaaaa");
        assert_eq!(wrap.push("aaa b", 8), "aaa");
        assert_eq!(wrap.finish(8), " b");
    }

    #[test]
    fn code_and_tables_are_left_alone() {
        let code = "```rust\nlet a = 1; // a long comment here\n    x\n```\n";
        assert_eq!(wrapped(code, 12), code);
        assert_eq!(wrapped(&format!("{code}one two three"), 12), format!("{code}one two\nthree"));
        let nested = "````\n```\none two three four\n````\n";
        assert_eq!(wrapped(nested, 10), nested);
        let tilde = "~~~\none two three four\n```\none two three four\n~~~\n";
        assert_eq!(wrapped(tilde, 10), tilde);
        let table = "| one | two | three |\n|---|---|---|\n";
        assert_eq!(wrapped(table, 10), table);
        let indented = "so:\n\n    let a = 1; let b = 2;\n    let c = 3; let d = 4;\n";
        assert_eq!(wrapped(indented, 12), indented);
        assert_eq!(wrapped("``a`` is code within a line", 12), "``a`` is\ncode within\na line");
        assert_eq!(wrapped("```a``` one two three\nfour five six seven", 12).lines().count(), 3);
    }

    #[test]
    fn items_of_lists_are_indented() {
        assert_eq!(wrapped("- one two three\n", 10), "- one two\n  three\n");
        assert_eq!(wrapped("10. one two\n", 8), "10. one\n    two\n");
        let deep = "- a\n\n    one two three four\n";
        assert_eq!(wrapped(deep, 14), "- a\n\n    one two\n    three four\n");
        assert_eq!(wrapped("-5 is a number, 3.5 too", 12), "-5 is a\nnumber, 3.5\ntoo");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(wrapped("你好世界你好", 8), "你好世界\n你好");
        assert_eq!(wrapped("你好世界。你好", 8), "你好世\n界。你好");
        assert_eq!(wrapped("ab你好cd", 6), "ab你好\ncd");
        // A family emoji is one character of two columns, and a combining accent has no width.
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(wrapped(&format!("{family}{family}"), 3), format!("{family}\n{family}"));
        assert_eq!(wrapped("e\u{301}e\u{301} e\u{301}", 4), "e\u{301}e\u{301} e\u{301}");
    }

    #[test]
    fn what_steers_a_terminal_is_shown_instead() {
        assert_eq!(wrapped("a\x1b[31mb\x07\r\nc\td", 80), "a\u{fffd}[31mb\u{fffd}\nc d");
        assert_eq!(wrapped("```\na\tb\x1bc\n", 80), "```\na\tb\u{fffd}c\n");
    }
}
