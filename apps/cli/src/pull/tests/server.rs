//! A server on the loopback interface that answers as a test tells it, with one thread per connection and no
//! keep-alive.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request that was received.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// GET or HEAD.
    pub(super) method: String,
    /// The requested path.
    pub(super) path: String,
    /// First byte of its `Range`, if it has one.
    pub(super) from: Option<usize>,
    /// Number of requests received before it.
    pub(super) before: usize,
}

/// An answer of the server.
pub(super) struct Answer {
    /// Status line after `HTTP/1.1`, such as `200 OK`.
    pub(super) status: &'static str,
    /// Headers other than `Connection`.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body. The connection is closed after it, whatever length was announced.
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: &'static str) -> Self {
        Self { status, headers: vec![("Content-Length", "0".into())], body: Vec::new() }
    }

    /// Returns all of `body`, or the part that a `Range` asks for.
    pub(super) fn file(body: &[u8], from: Option<usize>) -> Self {
        let Some(from) = from else {
            return Self {
                status: "200 OK",
                headers: vec![("Content-Length", body.len().to_string())],
                body: body.to_vec(),
            };
        };
        if from >= body.len() {
            return Self::status("416 Range Not Satisfiable");
        }
        let rest = body[from..].to_vec();
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        Self {
            status: "206 Partial Content",
            headers: vec![("Content-Length", rest.len().to_string()), ("Content-Range", range)],
            body: rest,
        }
    }

    /// Breaks the connection after `count` bytes of the body.
    pub(super) fn cut(mut self, count: usize) -> Self {
        self.body.truncate(count);
        self
    }
}

/// A running server. It runs until the test program ends.
pub(super) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { url, asked }
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let from = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
        .last();
    let asked = {
        let mut log = log.lock().unwrap();
        let asked = Asked { method, path, from, before: log.len() };
        log.push(asked.clone());
        asked
    };
    let Answer { status, headers, body } = answer(&asked);
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    // The client may have closed the connection already.
    stream.write_all(head.as_bytes()).ok();
    if asked.method != "HEAD" {
        stream.write_all(&body).ok();
    }
}
