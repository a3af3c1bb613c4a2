//! Files of the hub that are not in the catalogue.

use super::server::{Answer, Server};
use super::*;

fn reference() -> HubReference {
    HubReference::parse("o/r/q4/m.gguf").unwrap()
}

/// A hub that says `etag` of its one file, and whose storage breaks off once.
fn hub(etag: Option<String>) -> Server {
    Server::start(move |asked| {
        if asked.path == "/o/r/resolve/main/q4/m.gguf" {
            let mut answer = Answer::status("302 Found");
            answer.headers.push(("Location", "/storage".into()));
            if let Some(etag) = &etag {
                answer.headers.push(("X-Linked-ETag", format!("\"{etag}\"")));
                answer.headers.push(("X-Linked-Size", body().len().to_string()));
            }
            return answer;
        }
        let answer = Answer::file(&body(), asked.from);
        if asked.before < 3 { answer.cut(400_000) } else { answer }
    })
}

#[test]
fn the_hubs_hash_is_checked() {
    let server = hub(Some(sha256(&body())));
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &server.url);
    let pulled = places.ensure_reference(&reference(), &Silent).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), body());
    assert_eq!((pulled.sha256.as_str(), pulled.checked), (sha256(&body()).as_str(), true));
    assert_eq!(server.asked()[0].method, "HEAD");
    assert_eq!(server.asked().last().unwrap().from, Some(400_000));
    let asked = server.asked().len();
    let again = places.ensure_reference(&reference(), &Silent).unwrap();
    assert_eq!((again.sha256, again.checked), (pulled.sha256, false));
    assert_eq!(server.asked().len(), asked, "the second use asked nobody");
    places.verify_reference(&reference(), &Silent).unwrap();
    fs::write(&pulled.path, b"other").unwrap();
    assert!(matches!(places.verify_reference(&reference(), &Silent), Err(PullError::Damaged { .. })));
    assert!(!pulled.path.exists());
}

#[test]
fn a_file_that_is_not_what_the_hub_says_is_refused() {
    let server = hub(Some("0".repeat(64)));
    let folder = TempDir::new().unwrap();
    let error = places(&folder, &server.url).ensure_reference(&reference(), &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(&failures[0].1, SourceError::Sha256 { .. }), "{error}");
}

#[test]
fn without_a_hash_nothing_is_pieced_together() {
    let server = hub(None);
    let folder = TempDir::new().unwrap();
    let pulled = places(&folder, &server.url).ensure_reference(&reference(), &Silent).unwrap();
    assert_eq!((pulled.sha256.as_str(), pulled.checked), (sha256(&body()).as_str(), false));
    assert!(server.asked().iter().all(|asked| asked.from.is_none()));
}

#[test]
fn a_renamed_repository_is_followed_and_a_missing_one_told() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/o/r/resolve/main/q4/m.gguf" => {
            let mut answer = Answer::status("307 Temporary Redirect");
            answer.headers.push(("Location", "/o/new/resolve/main/q4/m.gguf".into()));
            answer
        }
        "/o/new/resolve/main/q4/m.gguf" => {
            let mut answer = Answer::file(&body(), asked.from);
            answer.headers.push(("X-Linked-ETag", sha256(&body())));
            answer
        }
        _ => Answer::status("404 Not Found"),
    });
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &server.url);
    assert!(places.ensure_reference(&reference(), &Silent).unwrap().checked);
    let error = places.ensure_reference(&HubReference::parse("o/none/m.gguf").unwrap(), &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].1, SourceError::Status { status: 404, .. }), "{error}");
}
