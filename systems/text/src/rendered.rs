//! A conversation as a template has rendered it.

use std::ops::Range;

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges that are text whatever they say, ascending.
    pub literal: Vec<Range<usize>>,
}
