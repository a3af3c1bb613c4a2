//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use weft_platform::storage::{NewFile, NewFileError};

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = NewFile::create(&path, false, 3).unwrap();
    file.write_all(b"abc").unwrap();
    assert_eq!(names(folder.path()), ["model.gguf.part"]);
    drop(file);
    assert!(names(folder.path()).is_empty());

    let mut file = NewFile::create(&path, false, 3).unwrap();
    file.write_all(b"abc").unwrap();
    let busy = NewFile::create(&path, false, 3).unwrap_err();
    assert!(matches!(&busy, NewFileError::Busy { part, .. } if part.ends_with("model.gguf.part")), "{busy}");
    file.commit().unwrap();
    assert_eq!(names(folder.path()), ["model.gguf"]);
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[test]
fn what_is_there_stays_until_it_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, "old").unwrap();
    let refused = NewFile::create(&path, false, 3).unwrap_err();
    assert!(matches!(refused, NewFileError::Exists { .. }), "{refused}");
    let mut file = NewFile::create(&path, true, 3).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["model.gguf"]);
}

#[test]
fn places_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| NewFile::create(path, true, 1).unwrap_err();
    assert!(matches!(refused(folder.path()), NewFileError::NotAFile { .. }));
    assert!(matches!(refused(Path::new("")), NewFileError::NotAFile { .. }));
    let missing = refused(&folder.path().join("no/model.gguf"));
    assert!(matches!(missing, NewFileError::Create { .. }), "{missing}");
    assert!(names(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn no_device_is_replaced_and_links_are_followed() {
    let null = NewFile::create(Path::new("/dev/null"), true, 1).unwrap_err();
    assert!(matches!(null, NewFileError::NotAFile { .. }), "{null}");
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("model.gguf"), folder.path().join("link"));
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut file = NewFile::create(&link, true, 3).unwrap();
    file.write_all(b"new").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[cfg(unix)]
#[test]
fn more_than_there_is_room_for_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let full = NewFile::create(&folder.path().join("large"), false, u64::MAX).unwrap_err();
    assert!(matches!(full, NewFileError::NoRoom { bytes: u64::MAX, .. }), "{full}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn several_may_replace_a_file_and_the_last_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("names.json");
    let mut first = NewFile::replace(&path).unwrap();
    let mut second = NewFile::replace(&path).unwrap();
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    second.commit().unwrap();
    first.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    drop(NewFile::replace(&path).unwrap());
    assert_eq!(names(folder.path()), ["names.json"]);
    assert!(matches!(NewFile::replace(folder.path()), Err(NewFileError::NotAFile { .. })));
    let missing = NewFile::replace(&folder.path().join("no/names.json")).unwrap_err();
    assert!(matches!(missing, NewFileError::Create { .. }), "{missing}");
}

#[cfg(unix)]
#[test]
fn who_may_read_a_file_that_is_replaced_stays() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.json");
    fs::write(&path, "old").unwrap();
    for (mode, begin) in [
        (0o600, (|path: &Path| NewFile::replace(path)) as fn(&Path) -> _),
        (0o640, |path| NewFile::create(path, true, 3)),
        (0o444, |path| NewFile::replace(path)),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let mut file = begin(&path).unwrap();
        for name in names(folder.path()) {
            let found = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}
