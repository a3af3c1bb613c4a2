//! The position of a segment of text.

/// What precedes a segment of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: the segment begins the whole text.
    Start,
    /// A special token.
    AfterToken,
}
