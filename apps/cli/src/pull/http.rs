//! Downloads a file over HTTP into its part file, resuming an earlier attempt.
//!
//! A download is resumed only if the SHA-256 of the whole file is known beforehand. If the hash is wrong after
//! resuming, the download starts over once, because the kept bytes may be at fault.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cache::{CHUNK, Target, hash_rest, hex, remove};
use super::error::{DiskError, SourceError};
use super::progress::{Phase, Progress, Silent};

/// A host that does not answer within this time counts as unreachable.
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum time that a server may take to answer, and maximum pause between bytes.
const SILENCE: Duration = Duration::from_secs(30);
/// Maximum resumed attempts after a broken connection that bring no bytes. Attempts that bring some are not counted.
const FRUITLESS: u32 = 2;
/// Maximum attempts in total.
const ATTEMPTS: u32 = 50;

/// Creates the client for all requests.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .http_status_as_error(false)
        .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
        // Ranges and sizes have to refer to the bytes on the wire.
        .accept_encoding("identity")
        .build()
        .new_agent()
}

/// Downloads `url` into the target's part file. Returns the open part and its SHA-256, compared with the target's.
pub(super) fn fetch(
    agent: &ureq::Agent,
    url: &str,
    target: &Target<'_>,
    progress: &dyn Progress,
) -> Result<(File, String), SourceError> {
    let mut part = Part::open(target)?;
    let mut resumed = complete(agent, url, &mut part, progress)?;
    loop {
        let found = hex(part.hash.clone());
        let Some(expected) = target.sha256.filter(|expected| *expected != found) else {
            return Ok((part.file, found));
        };
        part.restart()?;
        if !resumed {
            drop(part);
            remove(&target.part())?;
            return Err(SourceError::Sha256 { from: url.to_owned(), expected: expected.to_owned(), found });
        }
        complete(agent, url, &mut part, progress)?;
        resumed = false;
    }
}

/// Sends requests until the part is complete. Returns true if one of them resumed a partial file.
fn complete(
    agent: &ureq::Agent,
    url: &str,
    part: &mut Part<'_>,
    progress: &dyn Progress,
) -> Result<bool, SourceError> {
    let mut resumed = part.len > 0;
    let mut fruitless = 0;
    let mut attempt = 0;
    while part.total.is_none_or(|total| part.len < total) {
        attempt += 1;
        let before = part.len;
        match download(agent, url, part, progress)? {
            End::Whole => break,
            End::Cut(reason) => {
                fruitless = if part.len > before { 0 } else { fruitless + 1 };
                if fruitless >= FRUITLESS || attempt >= ATTEMPTS {
                    return Err(SourceError::Cut {
                        url: url.to_owned(),
                        got: part.len,
                        total: part.total,
                        reason,
                    });
                }
                if part.target.sha256.is_none() {
                    part.restart()?;
                }
                resumed |= part.len > 0;
            }
        }
    }
    Ok(resumed)
}

/// The part file: its first `len` bytes are the file's, and `hash` covers them.
struct Part<'a> {
    target: &'a Target<'a>,
    file: File,
    len: u64,
    /// Size of the whole file: the target's, or what the server reports.
    total: Option<u64>,
    hash: Sha256,
    /// True once the server has answered.
    answered: bool,
}

impl<'a> Part<'a> {
    fn open(target: &'a Target<'a>) -> Result<Self, DiskError> {
        let path = target.part();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(DiskError::at("open", &path))?;
        let mut part =
            Self { target, file, len: 0, total: target.bytes, hash: Sha256::new(), answered: false };
        if target.sha256.is_some() {
            part.len = hash_rest(&mut part.file, &path, &mut part.hash, &Silent)?;
        }
        if target.sha256.is_none() || target.bytes.is_some_and(|bytes| part.len > bytes) {
            part.restart()?;
        }
        Ok(part)
    }

    fn restart(&mut self) -> Result<(), DiskError> {
        let path = self.target.part();
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(DiskError::at("write", &path))?;
        self.len = 0;
        self.hash = Sha256::new();
        self.total = self.target.bytes;
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all(bytes).map_err(DiskError::at("write", &self.target.part()))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}

enum End {
    Whole,
    Cut(String),
}

/// Sends one request. Received bytes are kept in the part.
fn download(
    agent: &ureq::Agent,
    url: &str,
    part: &mut Part<'_>,
    progress: &dyn Progress,
) -> Result<End, SourceError> {
    let target = part.target;
    let unreachable =
        |error: ureq::Error| SourceError::Unreachable { url: url.to_owned(), reason: error.to_string() };
    let ask = |from: u64| {
        let request = agent.get(url);
        if from > 0 { request.header("Range", format!("bytes={from}-")) } else { request }.call()
    };
    let mut answer = match ask(part.len) {
        Ok(answer) => answer,
        // After the server has answered once, a failure to connect counts as a broken connection, not as an unreachable
        // host.
        Err(error) if part.answered => return Ok(End::Cut(error.to_string())),
        Err(error) => return Err(unreachable(error)),
    };
    part.answered = true;
    let range = range(&answer);
    let goes_on = answer.status() == 206
        && range.is_some_and(|(start, whole)| {
            start == part.len && whole.zip(target.bytes).is_none_or(|(whole, bytes)| whole == bytes)
        });
    if part.len > 0 && !goes_on && matches!(answer.status().as_u16(), 200 | 206 | 416) {
        part.restart()?;
        // Status 200 returns the whole file, because the server does not support ranges. For another range or none
        // (416), the whole file is requested again. Any other status leaves the part for a later pull.
        if answer.status() != 200 {
            answer = ask(0).map_err(unreachable)?;
        }
    }
    let status = answer.status().as_u16();
    if status != 200 && !(goes_on && status == 206) {
        return Err(SourceError::Status { url: url.to_owned(), status });
    }
    let announced = if goes_on { range.and_then(|(_, whole)| whole) } else { answer.body().content_length() };
    if let (Some(expected), Some(found)) = (target.bytes, announced)
        && expected != found
    {
        return Err(SourceError::Size { from: url.to_owned(), expected, found });
    }
    part.total = target.bytes.or(announced);
    progress.phase(Phase::Downloading { from: part.len });
    progress.bytes(part.len, part.total);
    receive(answer.body_mut().as_reader(), url, part, progress)
}

/// Parses `Content-Range: bytes START-END/WHOLE` into its start and, if given, the whole size.
fn range(answer: &ureq::http::Response<ureq::Body>) -> Option<(u64, Option<u64>)> {
    let text = answer.headers().get("content-range")?.to_str().ok()?;
    let (span, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, whole.parse().ok()))
}

fn receive(
    mut body: impl Read,
    url: &str,
    part: &mut Part<'_>,
    progress: &dyn Progress,
) -> Result<End, SourceError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let found = part.len.saturating_add(count as u64);
                if let Some(expected) = part.total
                    && found > expected
                {
                    part.restart()?;
                    return Err(SourceError::Size { from: url.to_owned(), expected, found });
                }
                part.push(buffer.get(..count).unwrap_or_default())?;
                progress.bytes(part.len, part.total);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Ok(End::Cut(error.to_string())),
        }
    }
    match part.total {
        Some(total) if part.len < total => Ok(End::Cut("the connection was closed".to_owned())),
        _ => Ok(End::Whole),
    }
}
