//! A file at a URL, read in HTTP ranges (RFC 9110, section 14).
//!
//! A [`FedSource`] buffers the bytes. The source's own threads fetch the ranges that it requests, one range per request
//! and at most four requests at a time. Each request names the version of the file that was opened, by its entity tag
//! or date (`If-Range`), so that a model never mixes two versions.

mod error;
mod request;

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::window::WINDOWS;
use super::{FedSource, Feeder, Parker, Source, StorageError};

pub use error::HttpError;
use request::{Client, Resource};

/// Options of an [`HttpSource`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Maximum number of retries of a request that fails for a transient reason: the server is busy or the connection
    /// breaks.
    pub retries: u32,
    /// Wait before the first retry. It doubles with each retry.
    pub pause: Duration,
    /// Maximum wait for a connection, for a response, or for more bytes of a response.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    /// Four retries after 0.25, 0.5, 1 and 2 seconds, and a timeout of 30 seconds.
    fn default() -> Self {
        Self { retries: 4, pause: Duration::from_millis(250), timeout: Duration::from_secs(30) }
    }
}

/// A file at a URL. Reads are pending until a request has fetched their bytes. At most 2 MiB are buffered.
#[derive(Debug)]
pub struct HttpSource(FedSource);

impl HttpSource {
    /// Opens the file at `url`, `http` or `https`: requests its first byte, to learn the file's length and whether the
    /// server supports ranges. Blocks until the response, and starts the threads that fetch.
    ///
    /// Messages show the URL without user, password and query, which may contain secrets.
    ///
    /// # Errors
    /// [`StorageError::Http`].
    pub fn open(url: &str, options: &HttpOptions) -> Result<Self, StorageError> {
        let client = Client::new(url, options);
        let resource = tries(options, || true, || client.open().map_err(StorageError::Http))?;
        let (source, feeder) = FedSource::new(client.name(), resource.len);
        let link = Arc::new(Link { client, resource, options: options.clone(), feeder });
        for thread in 0..WINDOWS {
            let link = Arc::clone(&link);
            let spawned = thread::Builder::new().name("weft-http".to_owned()).spawn(move || link.work());
            // One thread is enough.
            if let (0, Err(error)) = (thread, spawned) {
                let (url, reason) = (source.name().to_owned(), error.to_string());
                return Err(HttpError::Unreachable { url, reason, transient: false }.into());
            }
        }
        Ok(Self(source))
    }
}

/// The state that the fetching threads share. They end when the source is dropped.
struct Link {
    client: Client,
    resource: Resource,
    options: HttpOptions,
    feeder: Feeder,
}

impl Link {
    /// Fetches requested ranges until the source is dropped.
    fn work(&self) {
        let parker = Parker::new();
        let waker = parker.waker();
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.feeder.poll_wanted(&mut cx) {
                Poll::Ready(Some(range)) => self.fetch(range),
                Poll::Ready(None) => return,
                Poll::Pending => parker.park(),
            }
        }
    }

    /// Fetches a range and feeds it piece by piece. A retry continues after the bytes already fed.
    fn fetch(&self, range: Range<u64>) {
        let mut at = range.start;
        let wanted = || !self.feeder.is_unread();
        let fetched = tries(&self.options, wanted, || {
            self.client.fetch(&self.resource, at..range.end, |bytes| {
                let count = bytes.len() as u64;
                self.feeder.feed(at, bytes)?;
                at += count;
                Ok(())
            })
        });
        if let Err(error) = fetched {
            self.feeder.fail_with(at, error);
        }
    }
}

/// Runs `attempt`, and retries it after transient errors while `wanted` returns true. Sleeps between tries.
fn tries<T>(
    options: &HttpOptions,
    wanted: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let mut pause = options.pause;
    for _ in 0..options.retries {
        match attempt() {
            Err(error) if error.is_transient() && wanted() => thread::sleep(pause),
            result => return result,
        }
        pause = pause.saturating_mul(2);
    }
    attempt()
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        self.0.poll_read(cx, offset, buffer)
    }

    fn is_polled(&self) -> bool {
        true
    }
}
