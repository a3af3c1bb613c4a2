//! A server on the loopback that answers as a test tells it, one thread a connection, no keep-alive.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// GET or HEAD.
    pub(super) method: String,
    /// Path.
    pub(super) path: String,
    /// First byte of its `Range`, if it has one.
    pub(super) from: Option<usize>,
    /// How many requests came before.
    pub(super) before: usize,
}

/// What the server does.
pub(super) struct Answer {
    /// Status line after `HTTP/1.1`, such as `200 OK`.
    pub(super) status: &'static str,
    /// Headers beside `Connection`.
    pub(super) headers: Vec<(&'static str, String)>,
    /// What follows; the connection is closed after it, whatever the length announced.
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: &'static str) -> Self {
        Self { status, headers: vec![("Content-Length", "0".into())], body: Vec::new() }
    }

    /// All of `body`, or what a `Range` asks of it.
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

    /// The connection breaks after `count` bytes of the body.
    pub(super) fn cut(mut self, count: usize) -> Self {
        self.body.truncate(count);
        self
    }
}

/// A running server; it lasts as long as the test program.
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

    /// What was asked so far.
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
    // A client that has heard enough may be gone.
    stream.write_all(head.as_bytes()).ok();
    if asked.method != "HEAD" {
        stream.write_all(&body).ok();
    }
}
