//! Downloads that are complete, interrupted, resumed, refused or wrong.

use super::server::{Answer, Asked, Server};
use super::*;

fn serve(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Server, TempDir, Places) {
    let server = Server::start(answer);
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &server.url);
    (server, folder, places)
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.asked().iter().map(|asked| asked.from).collect()
}

#[test]
fn a_whole_file() {
    let (server, _folder, places) = serve(|asked| Answer::file(&body(), asked.from));
    let model = model(&body(), vec![hub_source()]);
    let recorder = Recorder::default();
    let path = places.ensure(&model, &recorder).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(left(&places), ["m.gguf"]);
    assert_eq!(server.asked()[0].path, "/o/r/resolve/main/m.gguf");
    assert!(recorder.0.borrow().contains(&"Downloading { from: 0 }".to_owned()));
    places.ensure(&model, &Silent).unwrap();
    assert_eq!(server.asked().len(), 1, "the second use sends no request");
}

#[test]
fn a_redirect_keeps_the_range() {
    let (server, _folder, places) = serve(|asked| {
        if asked.path.starts_with("/o/") {
            let mut answer = Answer::status("302 Found");
            answer.headers.push(("Location", "/storage".into()));
            return answer;
        }
        let answer = Answer::file(&body(), asked.from);
        if asked.before < 2 { answer.cut(300_000) } else { answer }
    });
    places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
    assert_eq!(ranges(&server), [None, None, Some(300_000), Some(300_000)]);
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let (server, _folder, places) = serve(|asked| {
        let answer = Answer::file(&body(), asked.from);
        if asked.before < 3 { answer.cut(200_000) } else { answer }
    });
    let path = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(ranges(&server), [None, Some(200_000), Some(400_000), Some(600_000)]);
}

#[test]
fn an_earlier_pull_is_gone_on_with() {
    let (server, _folder, places) = serve(|asked| match asked.before {
        0 => Answer::file(&body(), asked.from).cut(500_000),
        1..3 => Answer::file(&body(), asked.from).cut(0),
        _ => Answer::file(&body(), asked.from),
    });
    let model = model(&body(), vec![hub_source()]);
    let error = places.ensure(&model, &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(
        matches!(failures[0].1, SourceError::Cut { got: 500_000, total: Some(1_000_003), .. }),
        "{error}"
    );
    assert_eq!(left(&places), ["m.gguf.part"]);
    let path = places.ensure(&model, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(ranges(&server).last(), Some(&Some(500_000)));
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let (server, _folder, places) = serve(|asked| {
        let answer = Answer::file(&body(), None);
        if asked.before == 0 { answer.cut(500_000) } else { answer }
    });
    let path = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(ranges(&server), [None, Some(500_000)]);
}

#[test]
fn a_range_refused_or_wrong_starts_over() {
    for wrong in ["416 Range Not Satisfiable", "206 Partial Content"] {
        let (server, _folder, places) = serve(move |asked| {
            if asked.from.is_none() {
                return Answer::file(&body(), None);
            }
            let mut answer = Answer::status(wrong);
            answer.headers.push(("Content-Range", "bytes 7-1000002/1000003".into()));
            answer
        });
        fs::create_dir_all(&places.folder).unwrap();
        fs::write(places.folder.join("m.gguf.part"), &body()[..1234]).unwrap();
        let path = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
        assert_eq!(fs::read(path).unwrap(), body());
        assert_eq!(ranges(&server), [Some(1234), None], "{wrong}");
    }
}

#[test]
fn a_server_in_trouble_costs_no_bytes() {
    let (_server, _folder, places) = serve(|_| Answer::status("503 Service Unavailable"));
    fs::create_dir_all(&places.folder).unwrap();
    fs::write(places.folder.join("m.gguf.part"), &body()[..1234]).unwrap();
    let error = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(fs::read(places.folder.join("m.gguf.part")).unwrap(), &body()[..1234]);
}

#[test]
fn a_part_that_was_wrong_is_fetched_again() {
    let (server, _folder, places) = serve(|asked| Answer::file(&body(), asked.from));
    fs::create_dir_all(&places.folder).unwrap();
    fs::write(places.folder.join("m.gguf.part"), [1; 5000]).unwrap();
    let path = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(ranges(&server), [Some(5000), None]);
}

#[test]
fn a_part_that_is_whole_needs_its_name_only() {
    let (server, _folder, places) = serve(|_| Answer::status("500 Internal Server Error"));
    fs::create_dir_all(&places.folder).unwrap();
    fs::write(places.folder.join("m.gguf.part"), body()).unwrap();
    let path = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert!(server.asked().is_empty());
}

#[test]
fn another_file_of_the_same_size_is_refused_and_the_next_source_tried() {
    let mut other = body();
    other[999_999] ^= 1;
    let found = sha256(&other);
    let (server, _folder, places) = serve(move |asked| {
        if asked.path.contains("mirror") {
            Answer::file(&body(), asked.from)
        } else {
            Answer::file(&other, asked.from)
        }
    });
    let mirror = Source::Hub { repo: "o/mirror".into(), file: "m.gguf".into(), revision: "main".into() };
    let recorder = Recorder::default();
    let path = places.ensure(&model(&body(), vec![hub_source(), mirror]), &recorder).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(server.asked().len(), 2);
    let phases = recorder.0.borrow();
    let failed = phases.iter().find(|phase| phase.starts_with("Failed")).unwrap();
    assert!(failed.contains(&found) && failed.contains(&sha256(&body())), "{failed}");
}

#[test]
fn a_wrong_hash_leaves_no_part() {
    let (_server, _folder, places) = serve(|_| Answer::file(&vec![0; 1_000_003], None));
    let error = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(
        matches!(&failures[0].1, SourceError::Sha256 { expected, found, .. }
            if *expected == sha256(&body()) && *found == sha256(&vec![0; 1_000_003])),
        "{error}"
    );
    assert_eq!(left(&places), [""; 0]);
}

#[test]
fn sizes_are_checked_before_bytes_are_kept() {
    // A body that is announced as too large, and one that is too large without being announced.
    for headers in [vec![("Content-Length", "1000004".to_owned())], Vec::new()] {
        let (_server, _folder, places) =
            serve(move |_| Answer { status: "200 OK", headers: headers.clone(), body: vec![0; 1_000_004] });
        let error = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap_err();
        let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
        assert!(matches!(failures[0].1, SourceError::Size { expected: 1_000_003, .. }), "{error}");
        assert!(fs::metadata(places.folder.join("m.gguf.part")).is_ok_and(|part| part.len() == 0));
    }
}

#[test]
fn a_missing_file_says_so() {
    let (server, _folder, places) = serve(|_| Answer::status("404 Not Found"));
    let error = places.ensure(&model(&body(), vec![hub_source()]), &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].1, SourceError::Status { status: 404, .. }), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn two_at_once_fetch_once() {
    let (server, _folder, places) = serve(|asked| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        Answer::file(&body(), asked.from)
    });
    let model = model(&body(), vec![hub_source()]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| places.ensure(&model, &Silent).unwrap());
        }
    });
    assert_eq!(server.asked().len(), 1);
    assert_eq!(left(&places), ["m.gguf"]);
}
