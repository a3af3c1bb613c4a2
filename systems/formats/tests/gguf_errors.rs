//! Every kind of invalid GGUF file, and the error that reports it.

use std::fs;
use std::sync::Arc;

use crate::gguf_support::{
    File, array, entry, entry_string, entry_u32, golden_bytes, memory, string, tensor,
};
use weft_formats::gguf::{Array, Gguf, GgufError, Value, open_files};
use weft_platform::storage::Source;

/// Type ids of tensors.
const F32: u32 = 0;
const Q4_0: u32 = 2;

/// Makes a file of two tensors with 64 bytes each.
fn two_tensors() -> File {
    File {
        tensors: vec![tensor("a", &[16], F32, 0), tensor("b", &[4, 4], F32, 64)],
        data: vec![7; 128],
        ..File::default()
    }
}

/// Asserts that reading fails with an error of the pattern, and that its message contains the file's name and each of
/// the texts.
macro_rules! refuses {
    ($file:expr, $pattern:pat, $($text:expr),*) => {{
        let error = $file.read().unwrap_err();
        assert!(matches!(error, $pattern), "not {}: {error:?}", stringify!($pattern));
        let message = error.to_string();
        for text in ["test.gguf", $($text),*] {
            assert!(message.contains(text), "{text:?} is not in {message:?}");
        }
    }};
}

#[test]
fn the_base_of_these_tests_is_right() {
    let gguf = two_tensors().read().unwrap();
    assert_eq!((gguf.version, gguf.alignment, gguf.tensors.len()), (3, 32, 2));
    assert_eq!(
        gguf.tensor("b").map(|b| (b.shape.clone(), b.bytes(), b.elements())),
        Some((vec![4, 4], 64, 16))
    );
    assert!(gguf.tensor("c").is_none());
    assert!(File::default().read().unwrap().tensors.is_empty());
}

#[test]
fn what_is_no_gguf_file() {
    refuses!(File { magic: *b"GGML", ..File::default() }, GgufError::NotGguf { .. }, "GGUF");
    refuses!(File { version: 0, ..File::default() }, GgufError::Version { version: 0, .. }, "damaged");
    refuses!(File { version: 1, ..File::default() }, GgufError::Version { version: 1, .. }, "1", "convert");
    refuses!(File { version: 4, ..File::default() }, GgufError::Version { version: 4, .. }, "4", "update");
    refuses!(
        File { version: 3_u32.swap_bytes(), ..File::default() },
        GgufError::BigEndian { version: 3, .. },
        "big-endian"
    );
    let empty = crate::gguf_support::read(vec![]).unwrap_err();
    assert!(matches!(empty, GgufError::Truncated { needed: 4, remain: 0, .. }), "{empty:?}");
    assert!(matches!(Gguf::read(&[]), Err(GgufError::NoSources)));
}

#[test]
fn counts_past_the_file() {
    for count in [1, 3, 1 << 32, 1 << 61, 1 << 63, u64::MAX] {
        let metadata = File { entry_count: Some(count), ..File::default() };
        refuses!(metadata, GgufError::Count { .. }, "metadata", &count.to_string());
        let tensors = File { tensor_count: Some(count), ..File::default() };
        refuses!(tensors, GgufError::Count { .. }, "tensor", &count.to_string());
        for id in 0..=12 {
            let entries = vec![entry("list", 9, &array(id, count, &[]))];
            refuses!(
                File { entries, ..File::default() },
                GgufError::Count { .. },
                "list",
                &count.to_string()
            );
        }
        let entries = vec![entry("text", 8, &count.to_le_bytes())];
        refuses!(File { entries, ..File::default() }, GgufError::Truncated { .. }, "text");
        // A key whose length exceeds the file. Enough bytes follow that an entry could fit.
        let entries =
            vec![[&(count + (count == 1) as u64 * 99).max(99).to_le_bytes()[..], &[1; 20]].concat()];
        refuses!(File { entries, ..File::default() }, GgufError::Truncated { .. }, "entry 0");
    }
    // The rest of the file is large enough for the entry count, but does not contain such entries.
    let file = File { entry_count: Some(2), data: vec![0; 100], ..File::default() };
    refuses!(file, GgufError::EmptyName { .. }, "entry 0");
}

#[test]
fn metadata() {
    let with = |entries: Vec<Vec<u8>>| File { entries, ..File::default() };
    refuses!(with(vec![entry("k", 13, &[0; 8])]), GgufError::ValueType { id: 13, .. }, "\"k\"", "13");
    refuses!(with(vec![entry("k", 9, &array(13, 0, &[]))]), GgufError::ValueType { id: 13, .. }, "\"k\"");
    refuses!(with(vec![entry("k", 7, &[2])]), GgufError::Bool { value: 2, .. }, "\"k\"", "2");
    refuses!(with(vec![entry("k", 9, &array(7, 3, &[0, 1, 9]))]), GgufError::Bool { value: 9, .. }, "\"k\"");
    refuses!(with(vec![entry_u32("k", 1), entry_u32("k", 1)]), GgufError::DuplicateKey { .. }, "\"k\"");
    refuses!(with(vec![entry_u32("", 1), entry_u32("k", 1)]), GgufError::EmptyName { .. }, "entry 0");
    let bad = [&string([0xff]), &4_u32.to_le_bytes()[..], &[0; 4]].concat();
    refuses!(with(vec![entry_u32("k", 1), bad]), GgufError::Utf8 { .. }, "entry 1", "UTF-8");
    refuses!(
        with(vec![entry_u32(&"k".repeat(65_536), 1)]),
        GgufError::NameTooLong { len: 65_536, .. },
        "65536"
    );
    assert!(with(vec![entry_u32(&"k".repeat(65_535), 1)]).read().is_ok());
}

#[test]
fn nested_arrays() {
    let nest = |depth: usize| [array(9, 1, &[]).repeat(depth - 1), array(4, 0, &[])].concat();
    let with = |depth| File { entries: vec![entry("deep", 9, &nest(depth))], ..File::default() };
    assert!(with(8).read().is_ok());
    refuses!(with(9), GgufError::Depth { .. }, "deep", "8");
    // Nesting limited only by the file's length. The reader must not recurse that deep.
    refuses!(with(1_000_000), GgufError::Depth { .. }, "deep");
    let mixed = [array(4, 1, &[1, 0, 0, 0]), array(8, 1, &string("x")), array(0, 0, &[])].concat();
    let gguf =
        File { entries: vec![entry("mixed", 9, &array(9, 3, &mixed))], ..File::default() }.read().unwrap();
    let expected = vec![Array::U32(vec![1]), Array::String(vec!["x".into()]), Array::U8(vec![])];
    assert_eq!(gguf.metadata.get("mixed"), Some(&Value::Array(Array::Array(expected))));
}

#[test]
fn text_that_is_not_utf_8_is_kept_and_reported() {
    let tokens = [string("good"), string([b'a', 0xff, b'b', 0xe2, 0x96]), string("▁the")].concat();
    let entries = vec![
        entry("name", 8, &string([0x80])),
        entry("tokens", 9, &array(8, 3, &tokens)),
        entry_string("fine", "ü"),
    ];
    let gguf = File { entries, ..File::default() }.read().unwrap();
    assert_eq!(gguf.metadata.str("name").unwrap(), "\u{FFFD}");
    assert_eq!(gguf.metadata.strings("tokens").unwrap(), ["good", "a\u{FFFD}b\u{FFFD}", "▁the"]);
    assert_eq!(gguf.metadata.lossy_keys().collect::<Vec<_>>(), ["name", "tokens"]);
}

#[test]
fn alignments() {
    for (value, fits) in [
        (0, false),
        (1, false),
        (3, false),
        (4, false),
        (24, false),
        (1 << 30, false),
        (u32::MAX, false),
        (8, true),
    ] {
        let file =
            File { entries: vec![entry_u32("general.alignment", value)], alignment: 8, ..two_tensors() };
        if fits {
            assert_eq!(file.read().unwrap().alignment, u64::from(value));
        } else {
            refuses!(file, GgufError::Alignment { .. }, "general.alignment", &value.to_string());
        }
    }
    let negative =
        File { entries: vec![entry("general.alignment", 5, &(-32_i32).to_le_bytes())], ..two_tensors() };
    refuses!(negative, GgufError::OutOfRange { .. }, "general.alignment", "-32");
    let text = File { entries: vec![entry_string("general.alignment", "32")], ..two_tensors() };
    refuses!(text, GgufError::WrongType { .. }, "general.alignment", "string");
    // The alignment exceeds the file's size, so the data start after the end of the file.
    let file = File { entries: vec![entry_u32("general.alignment", 1 << 24)], ..two_tensors() };
    refuses!(file, GgufError::PastEnd { start: 0x100_0000, .. }, "\"a\"");
}

#[test]
fn shapes() {
    let with = |shape: &[u64], id| File { tensors: vec![tensor("t", shape, id, 0)], ..two_tensors() };
    refuses!(with(&[], F32), GgufError::Dimensions { dimensions: 0, .. }, "\"t\"", "0");
    refuses!(with(&[1; 5], F32), GgufError::Dimensions { dimensions: 5, .. }, "\"t\"", "5");
    let mut many = with(&[1], F32);
    many.tensors[0][9..13].fill(0xff);
    refuses!(many, GgufError::Dimensions { dimensions: u32::MAX, .. }, "\"t\"");
    for shape in [&[0][..], &[4, 0], &[0, 4], &[1, 1, 1, 0], &[u64::MAX, u64::MAX, 0]] {
        refuses!(with(shape, F32), GgufError::ZeroDimension { .. }, "\"t\"");
    }
    let half = 1 << 32;
    // Shapes whose product wraps to 0, wraps to a small number, overflows in bytes but not in elements, or overflows in
    // the last dimension only.
    for shape in [
        &[half, half][..],
        &[half + 1, half],
        &[u64::MAX, u64::MAX],
        &[1 << 62],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[3, 0x5555_5555_5555_5556],
        &[u64::MAX],
    ] {
        refuses!(with(shape, F32), GgufError::SizeOverflow { .. }, "\"t\"");
    }
    assert!(matches!(with(&[1 << 40], F32).read(), Err(GgufError::PastEnd { .. })));
    refuses!(with(&[33], Q4_0), GgufError::RowNotBlocks { row: 33, block: 32, .. }, "\"t\"", "Q4_0");
    // The tensor is a whole number of blocks, but its rows are not.
    refuses!(with(&[16, 4], Q4_0), GgufError::RowNotBlocks { row: 16, .. }, "\"t\"");
    for id in [4, 5, 31, 32, 33, 36, 37, 38, 1000, u32::MAX] {
        refuses!(with(&[256], id), GgufError::UnknownFormat { .. }, "\"t\"", &id.to_string());
    }
    // The reader knows this format, although the engine cannot compute with it.
    assert_eq!(with(&[128], 41).read().unwrap().tensors[0].format.name(), "Q1_0");
    let mut unnamed = two_tensors();
    unnamed.tensors[1] = tensor("", &[16], F32, 64);
    refuses!(unnamed, GgufError::EmptyName { .. }, "tensor 1");
}

#[test]
fn places() {
    let at = |offset| File {
        tensors: vec![tensor("a", &[16], F32, 0), tensor("b", &[16], F32, offset)],
        ..two_tensors()
    };
    assert!(at(64).read().is_ok());
    for offset in [1, 65, 72, u64::MAX] {
        refuses!(at(offset), GgufError::Unaligned { alignment: 32, .. }, "\"b\"", &offset.to_string());
    }
    for offset in [96, 128, 1 << 40, 1 << 63] {
        refuses!(at(offset), GgufError::PastEnd { .. }, "\"b\"");
    }
    refuses!(at(u64::MAX - 31), GgufError::SizeOverflow { .. }, "\"b\"");
    for offset in [0, 32] {
        refuses!(at(offset), GgufError::Overlap { .. }, "\"a\"", "\"b\"");
    }
    let mut same = two_tensors();
    same.tensors[1] = tensor("a", &[16], F32, 64);
    refuses!(same, GgufError::DuplicateTensor { .. }, "\"a\"");
    // Tensors may be in any order and have gaps between them.
    let file = File { tensors: vec![tensor("b", &[8], F32, 96), tensor("a", &[8], F32, 0)], ..two_tensors() };
    assert_eq!(file.read().unwrap().tensors[0].name, "b");
    // The file is one byte too short.
    let mut short = two_tensors().bytes();
    short.pop();
    assert!(matches!(crate::gguf_support::read(short), Err(GgufError::PastEnd { .. })));
}

#[test]
fn getters() {
    let entries = vec![
        entry("u8", 0, &[200]),
        entry("i8", 1, &[0xff]),
        entry("u64", 10, &(1_u64 << 40).to_le_bytes()),
        entry("i64", 11, &7_i64.to_le_bytes()),
        entry("f32", 6, &0.5_f32.to_le_bytes()),
        entry("f64", 12, &0.25_f64.to_le_bytes()),
        entry("huge", 12, &1e300_f64.to_le_bytes()),
        entry("infinite", 12, &f64::INFINITY.to_le_bytes()),
        entry("yes", 7, &[1]),
        entry_string("text", "words"),
        entry("i16s", 9, &array(3, 2, &[0xfe, 0xff, 5, 0])),
        entry("f64s", 9, &array(12, 1, &0.75_f64.to_le_bytes())),
        entry("bools", 9, &array(7, 2, &[1, 0])),
        entry("texts", 9, &array(8, 1, &string("x"))),
    ];
    let metadata = File { entries, ..File::default() }.read().unwrap().metadata;
    assert_eq!(metadata.file(), "test.gguf");
    assert_eq!(metadata.iter().next(), Some(("u8", &Value::U8(200))));
    assert_eq!((metadata.u32("u8").unwrap(), metadata.u32("i64").unwrap()), (200, 7));
    assert_eq!((metadata.u64("u64").unwrap(), metadata.i32("i8").unwrap()), (1 << 40, -1));
    assert_eq!((metadata.f32("f32").unwrap(), metadata.f32("f64").unwrap()), (0.5, 0.25));
    assert_eq!(metadata.f32("infinite").unwrap(), f32::INFINITY);
    assert!(metadata.bool("yes").unwrap());
    assert_eq!(metadata.str("text").unwrap(), "words");
    assert_eq!(*metadata.i32s("i16s").unwrap(), [-2, 5]);
    assert_eq!(*metadata.f32s("f64s").unwrap(), [0.75]);
    assert_eq!(metadata.bools("bools").unwrap(), [true, false]);
    assert_eq!(metadata.strings("texts").unwrap(), ["x"]);

    let refused = |error: GgufError, parts: &[&str]| {
        let message = error.to_string();
        for part in [&["test.gguf"], parts].concat() {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        error
    };
    for error in [
        metadata.u32("u64").unwrap_err(),
        metadata.u32("i8").unwrap_err(),
        metadata.i32("u64").unwrap_err(),
        metadata.f32("huge").unwrap_err(),
        metadata.u32s("i16s").unwrap_err(),
    ] {
        assert!(matches!(refused(error, &["does not fit"]), GgufError::OutOfRange { .. }));
    }
    for error in [
        metadata.u32("f32").unwrap_err(),
        metadata.u32("yes").unwrap_err(),
        metadata.f32("u8").unwrap_err(),
        metadata.bool("u8").unwrap_err(),
        metadata.str("texts").unwrap_err(),
        metadata.strings("text").unwrap_err(),
        metadata.u32s("u8").unwrap_err(),
        metadata.f32s("i16s").unwrap_err(),
        metadata.bools("i16s").unwrap_err(),
    ] {
        assert!(matches!(refused(error, &["not a"]), GgufError::WrongType { .. }));
    }
    let missing = refused(metadata.u32("none").unwrap_err(), &["\"none\""]);
    assert!(matches!(missing, GgufError::MissingKey { .. }));
    assert_eq!(metadata.opt_u32("none").unwrap(), None);
    assert!(metadata.opt_strings("none").unwrap().is_none());
    assert!(metadata.opt_u32("text").is_err());
}

/// Makes a part of a split model.
fn part(number: u32, count: u32, total: u32, name: &str, tensors: &[&str]) -> File {
    File {
        entries: vec![
            entry("split.no", 2, &(number as u16).to_le_bytes()),
            entry("split.count", 2, &(count as u16).to_le_bytes()),
            entry("split.tensors.count", 5, &total.to_le_bytes()),
            entry_string("general.name", name),
        ],
        tensors: tensors.iter().zip(0..).map(|(name, i)| tensor(name, &[8], F32, i * 32)).collect(),
        data: vec![0; tensors.len() * 32],
        ..File::default()
    }
}

fn read_parts(parts: &[File]) -> Result<Gguf, GgufError> {
    let source = |(i, part): (usize, &File)| memory(&format!("part{}.gguf", i + 1), part.bytes());
    Gguf::read(&parts.iter().enumerate().map(source).collect::<Vec<Arc<dyn Source>>>())
}

#[test]
fn parts_that_do_not_belong_together() {
    let first = || part(0, 2, 3, "m", &["a", "b"]);
    let second = || part(1, 2, 3, "m", &["c"]);
    let whole = read_parts(&[first(), second()]).unwrap();
    assert_eq!(
        whole.tensors.iter().map(|t| (t.name.as_str(), t.source)).collect::<Vec<_>>(),
        [("a", 0), ("b", 0), ("c", 1)]
    );

    macro_rules! refuses_parts {
        ($parts:expr, $pattern:pat, $text:expr) => {
            let error = read_parts(&$parts).unwrap_err();
            assert!(matches!(error, $pattern), "not {}: {error:?}", stringify!($pattern));
            assert!(error.to_string().contains($text), "{error}");
        };
    }
    refuses_parts!([first()], GgufError::PartCount { expected: 2, given: 1, .. }, "part1.gguf");
    refuses_parts!([second()], GgufError::PartCount { expected: 2, given: 1, .. }, "part1.gguf");
    refuses_parts!([first(), second(), second()], GgufError::PartCount { expected: 2, given: 3, .. }, "3");
    refuses_parts!([second(), first()], GgufError::PartOrder { found: 2, expected: 1, .. }, "part1.gguf");
    refuses_parts!([first(), first()], GgufError::PartOrder { found: 1, expected: 2, .. }, "part2.gguf");
    refuses_parts!([first(), two_tensors()], GgufError::NotAPart { part: 2, .. }, "part2.gguf");
    refuses_parts!([two_tensors(), two_tensors()], GgufError::NotAPart { part: 1, .. }, "part1.gguf");
    refuses_parts!([first(), part(1, 3, 3, "m", &["c"])], GgufError::PartForeign { .. }, "split.count");
    refuses_parts!(
        [first(), part(1, 2, 9, "m", &["c"])],
        GgufError::PartForeign { .. },
        "split.tensors.count"
    );
    refuses_parts!([first(), part(1, 2, 3, "other", &["c"])], GgufError::PartForeign { .. }, "other");
    refuses_parts!([first(), part(1, 2, 3, "m", &["b"])], GgufError::DuplicateTensor { .. }, "part1.gguf");
    refuses_parts!(
        [first(), part(1, 2, 3, "m", &[])],
        GgufError::TensorCount { expected: 3, found: 2, .. },
        "3"
    );
    refuses_parts!([first(), part(1, 2, u32::MAX, "m", &["c"])], GgufError::OutOfRange { .. }, "part2.gguf");
    // Merging tools leave these keys in a merged file.
    assert!(read_parts(&[part(0, 0, 99, "m", &["a"])]).is_ok());
    assert!(read_parts(&[part(0, 1, 1, "m", &["a"])]).is_ok());
}

#[test]
fn parts_missing_from_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = |part: u32| dir.path().join(format!("m-{part:05}-of-00003.gguf"));
    for part in [1, 3] {
        fs::write(path(part), golden_bytes(&format!("gguf/split-{part:05}-of-00003.gguf"))).unwrap();
    }
    let Err(error) = open_files(&path(1)) else { panic!("a part is missing") };
    assert!(matches!(error, GgufError::PartMissing { part: 2, parts: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("m-00002-of-00003.gguf"), "{error}");
    // A renamed part is opened alone, and reading it reports the missing parts.
    let renamed = dir.path().join("renamed.gguf");
    fs::rename(path(1), &renamed).unwrap();
    let error = Gguf::read(&open_files(&renamed).unwrap()).unwrap_err();
    assert!(matches!(error, GgufError::PartCount { expected: 3, given: 1, .. }), "{error:?}");
    // An empty file can be opened, but not read as a model.
    fs::write(&renamed, []).unwrap();
    assert!(matches!(Gguf::read(&open_files(&renamed).unwrap()), Err(GgufError::Truncated { .. })));
    assert!(matches!(open_files(dir.path()), Err(GgufError::Storage(_))));
}
