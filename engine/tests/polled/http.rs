//! A model behind a URL, from a server of the test's own.

use crate::common::golden;
use crate::common::polled::load;
use crate::common::reference::tiny_agrees_on;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weft::storage::{HttpOptions, HttpSource, Source};
use weft::{LoadOptions, ModelSource};

/// Serves ranges of `content`. Answers the second request with 500 and breaks off the third one half way.
fn serve(content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/tiny-gemma3.gguf", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (content, counted) = (Arc::new(content), Arc::clone(&requests));
    // Ends with the process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let content = Arc::clone(&content);
            // A client that goes away is no failure.
            std::thread::spawn(move || answer(connection?, &content, number));
        }
    });
    (url, requests)
}

fn answer(mut connection: TcpStream, content: &[u8], number: usize) -> std::io::Result<()> {
    let mut range = None;
    for line in BufReader::new(connection.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(asked) = line.strip_prefix("range: bytes=") {
            let (first, last) = asked.split_once('-').unwrap();
            range = Some((first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap()));
        }
    }
    if number == 1 {
        return write!(connection, "HTTP/1.1 500 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    let (first, last) = range.expect("a range");
    let last = last.min(content.len() - 1);
    let body = &content[first..=last];
    write!(
        connection,
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nETag: \"one\"\r\nContent-Length: {}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\n\r\n",
        body.len(),
        content.len()
    )?;
    connection.write_all(if number == 2 { &body[..body.len() / 2] } else { body })
}

#[test]
fn a_model_behind_a_url_gives_the_reference_text() {
    let content = std::fs::read(golden("tiny/tiny-gemma3.gguf")).unwrap();
    let (url, requests) = serve(content);
    let mut options = HttpOptions::default();
    options.pause = Duration::from_millis(5);
    let source = HttpSource::open(&url, &options).unwrap();
    let source = ModelSource::Parts(vec![Arc::new(source) as Arc<dyn Source>]);
    let mut engine = super::engine();
    let model = load(&mut engine, source, &LoadOptions::default());
    tiny_agrees_on("tiny-gemma3", &mut engine, model);
    // The first byte, two that failed, and at least two windows.
    assert!(requests.load(Ordering::Relaxed) >= 5, "{requests:?}");
}
