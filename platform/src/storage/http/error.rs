//! Errors of reading a URL.

/// An error of an [`HttpSource`](super::HttpSource). URLs are shown without user, password and query.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The server answered with an unexpected status.
    #[error("{url}: the server answered with status {status}; {}", remedy(*status))]
    Status {
        /// The URL.
        url: String,
        /// The status: 4xx, 5xx, or one that does not answer a range request.
        status: u16,
    },
    /// The server does not send byte ranges of the file.
    #[error(
        "{url}: the server does not honour byte ranges: {reason}; download the file, then load it from disk"
    )]
    NoRanges {
        /// The URL.
        url: String,
        /// What the server sent instead.
        reason: String,
    },
    /// The file has changed since it was opened.
    #[error(
        "{url}: the file was changed while it was read: its {what} was {was} and is {found} now; load it again"
    )]
    Changed {
        /// The URL.
        url: String,
        /// What differs: length, entity tag or date.
        what: &'static str,
        /// Its value when the file was opened.
        was: String,
        /// Its value now.
        found: String,
    },
    /// There was no response, or the connection broke during it.
    #[error("{url}: cannot be fetched: {reason}; check the address and the connection")]
    Unreachable {
        /// The URL.
        url: String,
        /// What failed.
        reason: String,
        /// True if another try may succeed.
        transient: bool,
    },
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "it asks for a login, which is not supported: download the file, then load it from disk",
        404 | 410 => "check the address",
        408 | 429 | 500.. => "try again later",
        _ => "check that the address is that of the file itself",
    }
}

impl HttpError {
    /// Returns true if another try may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            // 408: the server timed out waiting for the request. 429: too many requests.
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable { transient, .. } => *transient,
            Self::NoRanges { .. } | Self::Changed { .. } => false,
        }
    }
}
