//! Files behind a URL, from a server of the test's own that misbehaves in every way it is told to.

use super::{check_contract, polled};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use weft_platform::storage::{HttpError, HttpOptions, HttpSource, Source, StorageError};

/// What the server does in place of answering a request as it should.
#[derive(Clone, Copy)]
enum Fault {
    /// Answers with this status and nothing else.
    Status(u16),
    /// Closes the connection after so many bytes of the body.
    Cut(usize),
    /// Closes it without an answer.
    Silent,
    /// Sends all of the file.
    Whole,
    /// Says that the bytes are those behind the ones asked for.
    Shifted,
    /// Sends at most so many bytes of the range, and says so.
    Short(usize),
}

struct State {
    content: Vec<u8>,
    tag: Option<&'static str>,
    faults: VecDeque<Fault>,
    /// What is done once the faults are through.
    always: Option<Fault>,
    /// Ranges that were asked for.
    asked: Vec<String>,
}

struct Server {
    url: String,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    fn new(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/models/tiny.gguf", listener.local_addr().unwrap());
        let state =
            State { content, tag: Some("\"one\""), faults: VecDeque::new(), always: None, asked: vec![] };
        let (state, ended) = (Arc::new(Mutex::new(state)), Arc::new(AtomicBool::new(false)));
        let server = Self { url, state: Arc::clone(&state), ended: Arc::clone(&ended) };
        thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&state);
                // A client that goes away is no failure.
                thread::spawn(move || answer(connection?, &state));
            }
        });
        server
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn open(&self) -> Result<HttpSource, StorageError> {
        HttpSource::open(&self.url, &options())
    }

    fn error(&self) -> HttpError {
        http(self.open().unwrap_err())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let address = self.url.trim_start_matches("http://").split('/').next().unwrap();
        // So that the listener notices.
        drop(TcpStream::connect(address));
    }
}

/// Answers one request.
fn answer(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let (mut range, mut condition) = (None, None);
    for line in BufReader::new(connection.try_clone()?).lines() {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("if-range") => {
                condition = Some(value.to_owned())
            }
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let (content, tag, fault) = {
        let mut state = state.lock().unwrap();
        state.asked.push(range.clone().unwrap_or_default());
        (state.content.clone(), state.tag, state.faults.pop_front().or(state.always))
    };
    let tag_line = tag.map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
    let len = content.len();
    let mut send = |status: &str, extra: &str, body: &[u8], most: usize| {
        let bytes = body.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {bytes}\r\n{tag_line}{extra}\r\n"
        )?;
        connection.write_all(&body[..bytes.min(most)])
    };
    match fault {
        Some(Fault::Status(status)) => return send(&format!("{status} No"), "", b"", 0),
        Some(Fault::Silent) => return Ok(()),
        _ => {}
    }
    let changed = condition.is_some_and(|condition| tag.is_some_and(|tag| condition != tag));
    let Some(range) = range.filter(|_| !changed && !matches!(fault, Some(Fault::Whole))) else {
        return send("200 OK", "", &content, usize::MAX);
    };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= len {
        return send("416 No", &format!("Content-Range: bytes */{len}\r\n"), b"", 0);
    }
    let mut end = (last + 1).min(len);
    if let Some(Fault::Short(most)) = fault {
        end = end.min(first + most);
    }
    let shift = usize::from(matches!(fault, Some(Fault::Shifted)));
    let most = if let Some(Fault::Cut(most)) = fault { most } else { usize::MAX };
    let extra = format!("Content-Range: bytes {}-{}/{len}\r\n", first + shift, end - 1 + shift);
    send("206 Partial Content", &extra, &content[first..end], most)
}

fn options() -> HttpOptions {
    let mut options = HttpOptions::default();
    options.pause = Duration::from_millis(5);
    options.timeout = Duration::from_secs(10);
    options
}

fn http(error: StorageError) -> HttpError {
    match error {
        StorageError::Http(error) => error,
        other => panic!("{other}"),
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 253) as u8 ^ i as u8).collect()
}

#[test]
fn keeps_the_contract() {
    // Few bytes: each is asked for many times, in a request of its own.
    for len in [0, 1, 12, 300] {
        let server = Server::new(content(len));
        let source = server.open().unwrap();
        assert_eq!(source.name(), server.url);
        check_contract(&source, &content(len));
    }
}

#[test]
fn a_long_file_is_fetched_in_bounded_ranges_each_byte_once() {
    let bytes = content(2_000_000);
    let server = Server::new(bytes.clone());
    let source = server.open().unwrap();
    assert!(source.is_polled());
    assert_eq!(polled(&source, 0, bytes.len()).unwrap(), bytes);
    let asked = std::mem::take(&mut server.state.lock().unwrap().asked);
    let lengths: Vec<u64> = asked[1..]
        .iter()
        .map(|range| {
            let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
            last.parse::<u64>().unwrap() + 1 - first.parse::<u64>().unwrap()
        })
        .collect();
    assert_eq!(lengths.iter().sum::<u64>(), 2_000_000);
    assert!(lengths.iter().all(|len| *len <= 1 << 20), "{lengths:?}");
}

#[test]
fn several_readers_fetch_at_a_time() {
    let bytes = content(8_000_000);
    let server = Server::new(bytes.clone());
    let source = server.open().unwrap();
    thread::scope(|scope| {
        for reader in 0..6 {
            let (source, bytes) = (&source, &bytes);
            scope.spawn(move || {
                for piece in 0..5 {
                    let at = (reader * 1_200_000) + piece * 200_000;
                    assert_eq!(polled(source, at as u64, 200_000).unwrap(), bytes[at..at + 200_000]);
                }
            });
        }
    });
}

#[test]
fn what_may_pass_is_tried_again_and_goes_on_where_it_stopped() {
    let bytes = content(300_000);
    let server = Server::new(bytes.clone());
    server.change(|state| state.faults.extend([Fault::Status(500), Fault::Status(500)]));
    let source = server.open().unwrap();
    let faults = [Fault::Status(503), Fault::Cut(100_000), Fault::Silent, Fault::Short(70_000)];
    server.change(|state| state.faults.extend(faults));
    assert_eq!(source.read(0..300_000).unwrap().to_vec(), bytes);
    let asked = server.state.lock().unwrap().asked.clone();
    let first: Vec<u64> = asked[3..]
        .iter()
        .map(|range| range["bytes=".len()..].split_once('-').unwrap().0.parse().unwrap())
        .collect();
    assert_eq!(first.len(), 5, "{asked:?}");
    assert!(first[2] >= 60_000 && first[2] == first[3] && first[4] == first[3] + 70_000, "{asked:?}");
}

#[test]
fn tries_are_bounded_and_then_there_is_an_error() {
    let server = Server::new(content(1000));
    let source = server.open().unwrap();
    server.change(|state| state.always = Some(Fault::Status(500)));
    let error = source.read(0..1000).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(matches!(http(error), HttpError::Status { status: 500, .. }));
    assert_eq!(server.state.lock().unwrap().asked.len(), 1 + 1 + 4);
    // The server recovers, and so does the source.
    server.change(|state| state.always = None);
    assert_eq!(&*source.read(0..1000).unwrap(), content(1000));
    server.change(|state| state.always = Some(Fault::Cut(10)));
    assert!(matches!(
        http(source.read(0..1000).unwrap_err()),
        HttpError::Unreachable { transient: true, .. }
    ));
}

#[test]
fn refusals_are_errors_at_once() {
    let server = Server::new(content(1000));
    let source = server.open().unwrap();
    server.change(|state| state.always = Some(Fault::Status(404)));
    assert!(matches!(server.error(), HttpError::Status { status: 404, .. }));
    let error = source.read(0..1000).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("404"), "{error}");
    assert_eq!(server.state.lock().unwrap().asked.len(), 3);
    let url = server.url.clone();
    drop((server, source));
    let mut options = options();
    options.retries = 1;
    let gone = HttpSource::open(&url, &options).unwrap_err();
    assert!(matches!(http(gone), HttpError::Unreachable { transient: true, .. }));
    let nonsense = HttpSource::open("http://", &options).unwrap_err();
    assert!(matches!(http(nonsense), HttpError::Unreachable { transient: false, .. }));
}

#[test]
fn a_server_without_ranges_is_told() {
    let server = Server::new(content(1000));
    for fault in [Fault::Whole, Fault::Shifted] {
        server.change(|state| state.always = Some(fault));
        assert!(matches!(server.error(), HttpError::NoRanges { .. }));
        server.change(|state| state.always = None);
        let source = server.open().unwrap();
        server.change(|state| state.always = Some(fault));
        assert!(matches!(http(source.read(5..900).unwrap_err()), HttpError::NoRanges { .. }));
    }
}

#[test]
fn a_file_that_changes_is_an_error() {
    for tag in [Some("\"one\""), Some("\"two\""), Some("W/\"weak\""), None] {
        let server = Server::new(content(1000));
        server.change(|state| state.tag = tag.filter(|tag| *tag != "\"two\"").or(state.tag));
        let source = server.open().unwrap();
        server.change(|state| {
            state.tag = tag;
            state.content.truncate(900);
        });
        for range in [0..100, 950..1000] {
            let error = http(source.read(range).unwrap_err());
            assert!(matches!(error, HttpError::Changed { .. }), "{tag:?}: {error}");
        }
    }
}

#[test]
fn secrets_in_a_url_are_not_shown() {
    let server = Server::new(content(10));
    let url = format!("{}?token=secret#top", server.url.replace("http://", "http://user:secret@"));
    let source = HttpSource::open(&url, &options()).unwrap();
    assert_eq!(source.name(), server.url);
    server.change(|state| state.always = Some(Fault::Status(403)));
    assert!(!source.read(0..10).unwrap_err().to_string().contains("secret"));
}
