//! The HTTP requests of a source: one for the length, then one per range.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::{HttpError, HttpOptions};
use crate::storage::StorageError;

/// Maximum number of bytes per piece.
const CHUNK: usize = 64 << 10;

/// Makes requests for one URL.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// The URL as messages show it.
    name: String,
}

/// Length in bytes and version of the file when it was opened.
pub(super) struct Resource {
    pub(super) len: u64,
    version: Version,
}

/// Identifies a version of the file. Weak entity tags (`W/`) are left out, because versions with different bytes may
/// share one.
#[derive(Default)]
struct Version {
    tag: Option<String>,
    date: Option<String>,
}

/// A `Content-Range` header.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    /// The bytes that are sent; `None` if the range was not satisfiable.
    range: Option<Range<u64>>,
    /// Length of the file in bytes; `None` if the server does not say.
    len: Option<u64>,
}

impl Client {
    pub(super) fn new(url: &str, options: &HttpOptions) -> Self {
        let timeout = Some(options.timeout);
        let agent = Agent::config_builder()
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .http_status_as_error(false)
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            // Ranges count the bytes that are sent, so they must not be compressed.
            .accept_encoding("identity")
            .build()
            .new_agent();
        Self { agent, url: url.to_owned(), name: shown(url) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Requests the first byte, and returns the file's length and version.
    pub(super) fn open(&self) -> Result<Resource, HttpError> {
        let answer = self.ask(&(0..1), None)?;
        let found = content_range(&answer);
        let len = match (answer.status().as_u16(), found) {
            (206, Some(ContentRange { range: Some(Range { start: 0, end: 1 }), len: Some(len) })) => len,
            (206, _) => return Err(self.wrong_range(&answer, &(0..1))),
            // An empty file has no first byte.
            (416, Some(ContentRange { len: Some(0), .. })) => 0,
            (200, _) if answer.body().content_length() == Some(0) => 0,
            (200, _) => return Err(self.no_ranges("it sends the whole file".to_owned())),
            (status, _) => return Err(HttpError::Status { url: self.name.clone(), status }),
        };
        Ok(Resource { len, version: version(&answer) })
    }

    /// Fetches `range`, which is not empty, and passes it to `push` in pieces, in order.
    ///
    /// # Errors
    /// [`StorageError::Http`], or an error of `push`. The pieces passed before the error are valid.
    pub(super) fn fetch(
        &self,
        resource: &Resource,
        range: Range<u64>,
        mut push: impl FnMut(Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut answer = self.ask(&range, resource.version.validator())?;
        let found = self.check(resource, &range, &answer)?;
        let mut remain = found.end - found.start;
        let mut body = answer.body_mut().as_reader();
        while remain > 0 {
            let mut bytes = vec![0; CHUNK.min(usize::try_from(remain).unwrap_or(CHUNK))];
            match body.read(&mut bytes) {
                Ok(0) => return Err(self.broken("the connection was closed".to_owned()).into()),
                Ok(read) => {
                    bytes.truncate(read);
                    remain = remain.saturating_sub(read as u64);
                    push(bytes)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error.to_string()).into()),
            }
        }
        // A server may send less than the requested range.
        if found.end < range.end {
            return Err(self.broken("the server sent a part of the range".to_owned()).into());
        }
        Ok(())
    }

    fn ask(&self, range: &Range<u64>, validator: Option<&str>) -> Result<Response<Body>, HttpError> {
        let last = range.end.saturating_sub(1);
        let mut request =
            self.agent.get(&self.url).header(header::RANGE, format!("bytes={}-{last}", range.start));
        if let Some(validator) = validator {
            request = request.header(header::IF_RANGE, validator);
        }
        request.call().map_err(|error| {
            let transient = matches!(
                error,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::Protocol(_)
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::BodyStalled
            );
            HttpError::Unreachable { url: self.name.clone(), reason: error.to_string(), transient }
        })
    }

    /// Checks that a response has the start of `range`, or all of it, from the version that was opened. Returns the
    /// range that it has.
    fn check(
        &self,
        resource: &Resource,
        range: &Range<u64>,
        answer: &Response<Body>,
    ) -> Result<Range<u64>, HttpError> {
        let now = version(answer);
        let found = content_range(answer);
        let status = answer.status().as_u16();
        if matches!(status, 200 | 206)
            && let Some((what, was, found)) = resource.version.difference(&now)
        {
            return Err(self.changed(what, was, found));
        }
        let len = match status {
            200 => answer.body().content_length(),
            206 | 416 => found.as_ref().and_then(|found| found.len),
            _ => return Err(HttpError::Status { url: self.name.clone(), status }),
        };
        if let Some(len) = len.filter(|len| *len != resource.len) {
            return Err(self.changed("length", &resource.len.to_string(), &len.to_string()));
        }
        match found.and_then(|found| found.range) {
            _ if status == 200 => Err(self.no_ranges("it sends the whole file".to_owned())),
            Some(sent) if status == 206 && sent.start == range.start && sent.end <= range.end => Ok(sent),
            _ => Err(self.wrong_range(answer, range)),
        }
    }

    fn changed(&self, what: &'static str, was: &str, found: &str) -> HttpError {
        HttpError::Changed { url: self.name.clone(), what, was: was.to_owned(), found: found.to_owned() }
    }

    fn no_ranges(&self, reason: String) -> HttpError {
        HttpError::NoRanges { url: self.name.clone(), reason }
    }

    fn wrong_range(&self, answer: &Response<Body>, range: &Range<u64>) -> HttpError {
        let found = header_text(answer, header::CONTENT_RANGE);
        self.no_ranges(format!(
            "asked for bytes {} to {}, it sends {}",
            range.start,
            range.end.saturating_sub(1),
            found.unwrap_or("an answer without Content-Range")
        ))
    }

    fn broken(&self, reason: String) -> HttpError {
        HttpError::Unreachable { url: self.name.clone(), reason, transient: true }
    }
}

impl Version {
    /// Returns the value for `If-Range`.
    fn validator(&self) -> Option<&str> {
        self.tag.as_deref().or(self.date.as_deref())
    }

    /// Returns the first difference from `now`: what differs, the old value and the new value.
    fn difference<'a>(&'a self, now: &'a Self) -> Option<(&'static str, &'a str, &'a str)> {
        [("entity tag", &self.tag, &now.tag), ("date", &self.date, &now.date)].into_iter().find_map(
            |(what, was, now)| Some((what, was.as_deref()?, now.as_deref()?)).filter(|(_, a, b)| a != b),
        )
    }
}

fn header_text(answer: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    answer.headers().get(name)?.to_str().ok()
}

fn version(answer: &Response<Body>) -> Version {
    let text = |name| header_text(answer, name).map(str::to_owned);
    Version { tag: text(header::ETAG).filter(|tag| tag.starts_with('"')), date: text(header::LAST_MODIFIED) }
}

fn content_range(answer: &Response<Body>) -> Option<ContentRange> {
    parse_range(header_text(answer, header::CONTENT_RANGE)?)
}

/// Parses `bytes FIRST-LAST/LENGTH`. `FIRST-LAST` or `LENGTH` may be `*`.
fn parse_range(text: &str) -> Option<ContentRange> {
    let (span, len) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let len = if len == "*" { None } else { Some(len.parse().ok()?) };
    let range = match span.split_once('-') {
        Some((first, last)) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let end = last.checked_add(1).filter(|end| first < *end)?;
            Some(first..end)
        }
        None if span == "*" => None,
        None => return None,
    };
    Some(ContentRange { range, len })
}

/// Returns a URL without user, password, query and fragment.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
