//! Hub files that are not in the catalogue.

use super::server::{Answer, Server};
use super::*;

fn reference() -> HubReference {
    HubReference::parse("o/r/q4/m.gguf").unwrap()
}

/// A hub that states `etag` for its one file, and whose storage breaks off once.
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
    assert_eq!(server.asked().len(), asked, "the second use sends no request");
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

#[test]
fn only_what_the_hub_stated_is_checked() {
    let sum = sha256(&body());
    for (stated, again, checked) in [(false, false, false), (true, false, true), (false, true, true)] {
        let server = hub(stated.then(|| sum.clone()));
        let folder = TempDir::new().unwrap();
        let mut places = places(&folder, &server.url);
        let pulled = places.ensure_reference(&reference(), &Silent).unwrap();
        assert_eq!(pulled.checked, stated);
        // A hub without a checksum, and one that states it now. Neither is asked for the file again.
        let later = hub(again.then(|| sum.clone()));
        places.hub.clone_from(&later.url);
        assert_eq!(places.repair_reference(&reference(), &Silent).unwrap(), Pulled { checked, ..pulled });
        assert!(later.asked().iter().all(|asked| asked.method == "HEAD"));
    }
}

#[test]
fn notes_of_older_versions_vouch_for_nothing() {
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &nowhere());
    let path = places.folder.join(reference().cache_path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, body()).unwrap();
    let sum = sha256(&body());
    let size = body().len();
    for (note, checked) in [
        (format!("{sum}\n"), false),
        (format!("{sum} {size}\n"), false),
        (format!("{sum} {size} stated\n"), true),
        (format!("{sum} stated\n"), true),
    ] {
        fs::write(beside(&path, ".sha256"), &note).unwrap();
        assert_eq!(places.repair_reference(&reference(), &Silent).unwrap().checked, checked, "{note}");
    }
    // The hub has another file by now. The one here is what was pulled, and it is kept.
    let other = hub(Some("0".repeat(64)));
    let places = Places { hub: other.url.clone(), ..places };
    fs::write(beside(&path, ".sha256"), format!("{sum} {size}\n")).unwrap();
    assert!(!places.repair_reference(&reference(), &Silent).unwrap().checked);
    assert_eq!(fs::read(&path).unwrap(), body());
}

#[test]
fn what_is_being_pulled_is_not_removed() {
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &nowhere());
    let name = HubName::parse("o/r/m-00001-of-00002.gguf").unwrap();
    let remove = || places.remove_reference(&name, "m");
    assert!(matches!(remove(), Err(PullError::NotHere { .. })));
    let paths = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf.part"].map(|file| {
        let path = places.folder.join("hub/o--r").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"bytes").unwrap();
        path
    });
    let lock = Lock::wait(&places.folder.join("hub/o--r/m-00002-of-00002.gguf"), &Silent).unwrap();
    assert!(matches!(remove(), Err(PullError::BeingPulled { .. })));
    assert!(paths.iter().all(|path| path.exists()), "nothing is removed if not all can be");
    drop(lock);
    assert_eq!(remove().unwrap().files, paths);
    assert!(!places.folder.join("hub").exists());
}

#[test]
fn a_lock_whose_file_was_removed_is_held_by_nobody() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("m.gguf");
    let first = Lock::wait(&path, &Silent).unwrap();
    assert!(Lock::attempt(&path).unwrap().is_none());
    std::thread::scope(|scope| {
        let (held, wait) = std::sync::mpsc::channel();
        let path = &path;
        scope.spawn(move || held.send(Lock::wait(path, &Silent).unwrap()).unwrap());
        // Enough time to open the first lock's file and wait for it.
        std::thread::sleep(std::time::Duration::from_millis(200));
        first.remove().unwrap();
        let second = wait.recv().unwrap();
        assert!(Lock::attempt(path).unwrap().is_none(), "one process at a time");
        drop(second);
        Lock::attempt(path).unwrap().unwrap().remove().unwrap();
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn names_noted_at_once_are_all_kept() {
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &nowhere());
    let repository = places.folder.join("hub/o--r");
    let quants: Vec<String> = (0..16).map(|index| format!("Q{index}")).collect();
    fs::create_dir_all(&repository).unwrap();
    std::thread::scope(|scope| {
        for quant in &quants {
            let (places, repository) = (&places, &repository);
            scope.spawn(move || {
                let file = format!("m-{quant}.gguf");
                let name =
                    HubQuant { repo: "o/r".into(), quant: Some(quant.clone()), revision: "main".into() };
                places.note(&name, &file).unwrap();
                fs::write(repository.join(file), b"bytes").unwrap();
            });
        }
    });
    for quant in &quants {
        let name = HubQuant { repo: "o/r".into(), quant: Some(quant.clone()), revision: "main".into() };
        assert!(places.noted_reference(&name).is_some(), "{quant}");
    }
}
