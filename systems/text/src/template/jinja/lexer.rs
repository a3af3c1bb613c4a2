//! Splits a template into tokens as Jinja2's lexer does with `trim_blocks` and `lstrip_blocks`.
//!
//! The lexer removes white space around tags, so the parser sees only text that is printed. The rules are those of
//! `jinja2/lexer.py` 3.1. `-` removes the white space on its side, `+` keeps it. Without either, the spaces between the
//! start of a line and a block or comment are removed, and so is the line end after a block or comment.

use super::fault::SyntaxFault;
use super::python::is_space;
use std::sync::Arc;

/// A token of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text that is printed as it is.
    Data(Arc<str>),
    /// `{{`.
    OpenVariable,
    /// `}}`.
    CloseVariable,
    /// `{%`.
    OpenBlock,
    /// `%}`.
    CloseBlock,
    /// A name or keyword.
    Name(Arc<str>),
    /// A string literal with its escapes resolved.
    Str(Arc<str>),
    /// An integer.
    Int(i128),
    /// A float.
    Float(f64),
    /// An operator or bracket.
    Op(&'static str),
}

/// A token and the line on which it begins, from 1.
pub(super) type Lexeme = (Token, u32);

/// Operators, those of two characters first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// Returns the tokens of a template.
///
/// # Errors
/// A tag is not closed, brackets do not match, or a character begins no token.
pub(super) fn tokenize(source: &str) -> Result<Vec<Lexeme>, SyntaxFault> {
    let mut normal = source.replace("\r\n", "\n").replace('\r', "\n");
    if normal.ends_with('\n') {
        normal.pop();
    }
    let mut lexer = Lexer { source: &normal, at: 0, line: 1, line_start: true, out: Vec::new() };
    lexer.root()?;
    Ok(lexer.out)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Whether the last text read ended with a line end.
    line_start: bool,
    out: Vec<Lexeme>,
}

impl<'s> Lexer<'s> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, SyntaxFault> {
        Err(SyntaxFault { line: self.line, message: message.into() })
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// Advances by a number of bytes and counts lines.
    fn advance(&mut self, bytes: usize) {
        let passed = &self.source[self.at..self.at + bytes];
        self.line += passed.matches('\n').count() as u32;
        self.line_start = passed.ends_with('\n');
        self.at += bytes;
    }

    fn root(&mut self) -> Result<(), SyntaxFault> {
        loop {
            let rest = self.rest();
            let tag = rest
                .match_indices('{')
                .map(|(at, _)| at)
                .find(|at| matches!(rest.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#')));
            let Some(tag) = tag else {
                if !rest.is_empty() {
                    self.out.push((Token::Data(rest.into()), self.line));
                }
                return Ok(());
            };
            let kind = rest.as_bytes()[tag + 1];
            let sign = sign(&rest[tag + 2..]);
            self.data(&rest[..tag], sign, kind != b'{');
            let raw = (kind == b'%').then(|| raw_start(&rest[tag..])).flatten();
            self.advance(tag + raw.unwrap_or(2 + usize::from(sign.is_some())));
            match kind {
                _ if raw.is_some() => self.raw()?,
                b'#' => self.comment()?,
                b'%' => self.tag(Token::OpenBlock, "%}", Token::CloseBlock)?,
                _ => self.tag(Token::OpenVariable, "}}", Token::CloseVariable)?,
            }
        }
    }

    /// Emits the text before a tag, without the white space that the tag removes.
    fn data(&mut self, text: &str, sign: Option<u8>, strips_line: bool) {
        let kept = if sign == Some(b'-') {
            text.trim_end_matches(is_space)
        } else if sign.is_none() && strips_line {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            let blank = !text[line..].is_empty() && text[line..].chars().all(is_space);
            if blank && (line > 0 || self.line_start) { &text[..line] } else { text }
        } else {
            text
        };
        if !kept.is_empty() {
            self.out.push((Token::Data(kept.into()), self.line));
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxFault> {
        let rest = self.rest();
        if rest.is_empty() {
            // Jinja2 accepts an unclosed comment that begins where the template ends.
            return Ok(());
        }
        let Some(end) = rest.find("#}") else { return self.fail("a comment is not closed") };
        let after = match end.checked_sub(1).map(|at| rest.as_bytes()[at]) {
            Some(b'-') => white_space(&rest[end + 2..]),
            Some(b'+') => 0,
            _ => usize::from(rest[end + 2..].starts_with('\n')),
        };
        self.advance(end + 2 + after);
        Ok(())
    }

    fn raw(&mut self) -> Result<(), SyntaxFault> {
        let rest = self.rest();
        let found = rest.match_indices("{%").find_map(|(at, _)| {
            let sign = sign(&rest[at + 2..]);
            let inner = &rest[at + 2 + usize::from(sign.is_some())..];
            let word =
                inner.trim_start_matches(is_space).strip_prefix("endraw")?.trim_start_matches(is_space);
            let from = rest.len() - word.len();
            let length = block_end(word)?;
            Some((at, sign, from + length))
        });
        let Some((at, sign, length)) = found else { return self.fail("a raw block is not closed") };
        self.data(&rest[..at], sign, true);
        self.advance(length);
        Ok(())
    }

    /// Reads the inside of `{% … %}` or `{{ … }}`.
    fn tag(&mut self, open: Token, close: &'static str, closed: Token) -> Result<(), SyntaxFault> {
        self.out.push((open, self.line));
        let mut brackets: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            if brackets.is_empty() {
                let end = if close == "%}" { block_end(rest) } else { variable_end(rest) };
                if let Some(length) = end {
                    self.out.push((closed, self.line));
                    self.advance(length);
                    return Ok(());
                }
            }
            let Some(first) = rest.chars().next() else {
                return self.fail(format!("a tag is not closed: `{close}` is missing"));
            };
            let length = if is_space(first) {
                white_space(rest)
            } else if first.is_ascii_digit() {
                self.number()?
            } else if is_word(first) {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                self.out.push((Token::Name(rest[..length].into()), self.line));
                length
            } else if matches!(first, '\'' | '"') {
                self.string()?
            } else {
                let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
                    return self.fail(format!("unexpected character {first:?}"));
                };
                match operator {
                    "(" => brackets.push(")"),
                    "[" => brackets.push("]"),
                    "{" => brackets.push("}"),
                    ")" | "]" | "}" => match brackets.pop() {
                        Some(expected) if expected == operator => {}
                        Some(expected) => {
                            return self.fail(format!("unexpected `{operator}`, expected `{expected}`"));
                        }
                        None => return self.fail(format!("unexpected `{operator}`")),
                    },
                    _ => {}
                }
                self.out.push((Token::Op(operator), self.line));
                operator.len()
            };
            self.advance(length);
        }
    }

    /// Reads a number and returns its length in bytes.
    fn number(&mut self) -> Result<usize, SyntaxFault> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let after_dot = self.at > 0 && self.source.as_bytes()[self.at - 1] == b'.';
        let digits = |from: usize, accept: fn(&u8) -> bool| {
            let mut at = from;
            loop {
                let step = usize::from(bytes.get(at) == Some(&b'_') && at > 0);
                if !bytes.get(at + step).is_some_and(accept) {
                    return at;
                }
                at += step + 1;
            }
        };
        let whole = digits(0, u8::is_ascii_digit);
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1, u8::is_ascii_digit);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = digits(end + 1 + sign, u8::is_ascii_digit);
            }
        }
        if end > whole && !after_dot {
            let text = rest[..end].replace('_', "");
            self.out.push((Token::Float(text.parse().unwrap_or(f64::NAN)), self.line));
            return Ok(end);
        }
        let (radix, from, accept): (u32, usize, fn(&u8) -> bool) = match bytes.get(1) {
            Some(b'x' | b'X') if bytes[0] == b'0' => (16, 2, u8::is_ascii_hexdigit),
            Some(b'o' | b'O') if bytes[0] == b'0' => (8, 2, |byte| (b'0'..=b'7').contains(byte)),
            Some(b'b' | b'B') if bytes[0] == b'0' => (2, 2, |byte| matches!(byte, b'0' | b'1')),
            _ => (10, 0, u8::is_ascii_digit),
        };
        let mut end = digits(from, accept);
        let (mut radix, mut from) = (radix, from);
        if end == from {
            // `0x` without digits is a zero and a name.
            (radix, from, end) = (10, 0, 1);
        } else if radix == 10 && bytes[0] == b'0' {
            end = digits(0, |byte| *byte == b'0');
        }
        match i128::from_str_radix(&rest[from..end].replace('_', ""), radix) {
            Ok(number) => self.out.push((Token::Int(number), self.line)),
            Err(_) => return self.fail("a number has too many digits"),
        }
        Ok(end)
    }

    /// Reads a string literal and returns its length in bytes, quotes included.
    fn string(&mut self) -> Result<usize, SyntaxFault> {
        let rest = self.rest();
        let quote = rest.as_bytes()[0];
        let mut escaped = false;
        let mut end = None;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                _ if byte == quote => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else { return self.fail("a string is not closed") };
        match unescape(&rest[1..end]) {
            Ok(text) => self.out.push((Token::Str(text.into()), self.line)),
            Err(message) => return self.fail(message),
        }
        Ok(end + 1)
    }
}

fn sign(text: &str) -> Option<u8> {
    text.bytes().next().filter(|byte| matches!(byte, b'-' | b'+'))
}

fn white_space(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns the length of the end of a block, including the white space that it removes.
fn block_end(text: &str) -> Option<usize> {
    if let Some(after) = text.strip_prefix("%}") {
        return Some(2 + usize::from(after.starts_with('\n')));
    }
    if text.starts_with("+%}") {
        return Some(3);
    }
    text.strip_prefix("-%}").map(|after| 3 + white_space(after))
}

fn variable_end(text: &str) -> Option<usize> {
    if text.starts_with("}}") {
        return Some(2);
    }
    text.strip_prefix("-}}").map(|after| 3 + white_space(after))
}

/// Returns the length of `{% raw %}`, if the text begins with it. The line end after it is kept.
fn raw_start(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let after = inner.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
    if let Some(after) = after.strip_prefix("-%}") {
        return Some(text.len() - after.trim_start_matches(is_space).len());
    }
    after.strip_prefix("%}").map(|after| text.len() - after.len())
}

/// Resolves Python's escapes in a string literal.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(code) = rest.chars().next() else { break };
        rest = &rest[code.len_utf8()..];
        let simple = match code {
            '\n' => continue,
            '\\' | '\'' | '"' => code,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let digits = format!("{code}{}", &rest[..more]);
                rest = &rest[more..];
                u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32).unwrap_or_default()
            }
            'x' | 'u' | 'U' => {
                let length = match code {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits =
                    rest.get(..length).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let character =
                    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).map(char::from_u32);
                match character {
                    Some(Some(character)) => {
                        rest = &rest[length..];
                        character
                    }
                    Some(None) => return Err(format!("`\\{code}{}` is not a character", &rest[..length])),
                    None => return Err(format!("`\\{code}` needs {length} hexadecimal digits")),
                }
            }
            'N' => return Err("`\\N{…}` is not supported: write the character".to_owned()),
            other => {
                out.push('\\');
                out.push(other);
                continue;
            }
        };
        out.push(simple);
    }
    out.push_str(rest);
    Ok(out)
}
