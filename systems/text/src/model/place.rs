//! Where a stretch of text stands.

/// What stands before a stretch of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: it begins the whole text.
    Start,
    /// A special token.
    AfterToken,
}
