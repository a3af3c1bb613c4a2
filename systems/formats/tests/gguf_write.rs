//! Compares the writer with the reader, and with files that the `gguf` Python package wrote.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::slice;

use crate::gguf_support::{File, check_tensor, golden_bytes, memory, read};
use proptest::prelude::*;
use weft_components::TensorFormat;
use weft_components::formats::FORMATS;
use weft_formats::gguf::{Array, Gguf, GgufError, GgufHeader, GgufWriteError, GgufWriter, Metadata, Value};
use weft_platform::storage::Source;

fn format(name: &str) -> TensorFormat {
    TensorFormat::from_name(name).unwrap()
}

fn header(entries: Vec<(String, Value)>) -> GgufHeader {
    GgufHeader::new(&Metadata::new("out.gguf", entries).unwrap()).unwrap()
}

/// Writes a file with the given data for each tensor.
fn write<'a>(header: &GgufHeader, data: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut writer = GgufWriter::new(Vec::new(), header).unwrap();
    for bytes in data {
        writer.data(bytes).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn files_of_the_python_package_come_out_byte_for_byte() {
    for name in [
        "gguf/types-v3.gguf",
        "gguf/align-8.gguf",
        "gguf/align-64.gguf",
        "gguf/align-4096.gguf",
        "gguf/vocab-only.gguf",
        "golden-dequant.gguf",
        "tiny/tiny-llama-q4_1.gguf",
    ] {
        let bytes = golden_bytes(name);
        let source = memory(name, bytes.clone());
        let gguf = Gguf::read(slice::from_ref(&source)).unwrap();
        let mut header = GgufHeader::new(&gguf.metadata).unwrap();
        let mut data = Vec::new();
        for tensor in &gguf.tensors {
            header.tensor(&tensor.name, tensor.format, &tensor.shape).unwrap();
            data.push(source.read(tensor.range.clone()).unwrap());
        }
        assert_eq!(header.file_bytes(), bytes.len() as u64, "{name}");
        assert!(write(&header, data.iter().map(|data| &**data)) == bytes, "{name}");
    }
}

#[test]
fn every_type_of_value_is_read_back() {
    let arrays = [
        Array::U8(vec![0, 255]),
        Array::I8(vec![-128, 127]),
        Array::U16(vec![65_535]),
        Array::I16(vec![-32_768]),
        Array::U32(vec![u32::MAX, 0]),
        Array::I32(vec![i32::MIN]),
        Array::U64(vec![u64::MAX]),
        Array::I64(vec![i64::MIN]),
        Array::F32(vec![f32::MIN_POSITIVE, -0.0]),
        Array::F64(vec![f64::MAX]),
        Array::Bool(vec![true, false]),
        Array::String(vec![String::new(), "Ġé\0".into()]),
        Array::Array(vec![Array::U8(vec![1]), Array::Array(vec![Array::String(vec![])])]),
        Array::I32(vec![]),
    ];
    let mut values = vec![
        Value::U8(255),
        Value::I8(-1),
        Value::U16(65_535),
        Value::I16(-2),
        Value::U32(7),
        Value::I32(-7),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F32(1e-30),
        Value::F64(-1e300),
        Value::Bool(true),
        Value::Bool(false),
        Value::String("text with \"quotes\"\n".into()),
    ];
    values.extend(arrays.map(Value::Array));
    let entries: Vec<_> =
        values.into_iter().enumerate().map(|(i, value)| (format!("key.{i}"), value)).collect();
    let gguf = read(write(&header(entries.clone()), [])).unwrap();
    let found: Vec<_> = gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    assert_eq!(found, entries);
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let metadata = |entries| Metadata::new("out.gguf", entries);
    let twice = vec![("k".to_owned(), Value::U8(1)), ("k".to_owned(), Value::U8(2))];
    assert!(matches!(metadata(twice), Err(GgufError::DuplicateKey { .. })));
    let refused = |key: &str, value| GgufHeader::new(&metadata(vec![(key.to_owned(), value)]).unwrap());
    assert!(matches!(refused("", Value::U8(1)), Err(GgufWriteError::Key { .. })));
    assert!(matches!(refused(&"k".repeat(65_536), Value::U8(1)), Err(GgufWriteError::Key { .. })));
    let alignment = refused("general.alignment", Value::U32(12));
    assert!(matches!(alignment, Err(GgufWriteError::Metadata(GgufError::Alignment { value: 12, .. }))));
    let nested =
        |depth| Value::Array((1..depth).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner])));
    assert!(refused("deep", nested(8)).is_ok());
    assert!(matches!(refused("deep", nested(9)), Err(GgufWriteError::Depth { .. })));
    let large = Value::Array(Array::U8(vec![0; 256 << 20]));
    assert!(matches!(refused("large", large), Err(GgufWriteError::HeaderTooLarge { .. })));

    let mut header = header(vec![]);
    header.tensor("a", format("F32"), &[3]).unwrap();
    let mut refused = |name: &str, format, shape: &[u64]| {
        let error = header.tensor(name, format, shape).unwrap_err();
        assert!(error.to_string().contains("out.gguf"), "{error}");
        error
    };
    let (f32, q8_0) = (format("F32"), format("Q8_0"));
    assert!(matches!(refused("", f32, &[1]), GgufWriteError::TensorName { .. }));
    assert!(matches!(refused("a", f32, &[1]), GgufWriteError::DuplicateTensor { .. }));
    assert!(matches!(refused("b", f32, &[]), GgufWriteError::Shape { .. }));
    assert!(matches!(refused("b", f32, &[4, 0]), GgufWriteError::Shape { .. }));
    assert!(matches!(refused("b", f32, &[1; 5]), GgufWriteError::Shape { .. }));
    assert!(matches!(refused("b", q8_0, &[33, 2]), GgufWriteError::RowNotBlocks { row: 33, block: 32, .. }));
    assert!(matches!(refused("b", f32, &[u64::MAX, 2]), GgufWriteError::SizeOverflow { .. }));
    assert!(matches!(refused("b", f32, &[1 << 62]), GgufWriteError::SizeOverflow { .. }));
    assert!(matches!(refused("b", f32, &[(1 << 62) - 8]), GgufWriteError::SizeOverflow { .. }));
    // Refused tensors have not changed the header.
    assert_eq!(header.tensors().len(), 1);
    let gguf = read(write(&header, [&[0; 12][..]])).unwrap();
    assert_eq!(gguf.tensors.len(), 1);
}

#[test]
fn data_must_be_whole_and_no_more() {
    let mut header = header(vec![]);
    header.tensor("a", format("F32"), &[3]).unwrap();
    header.tensor("b", format("F32"), &[1]).unwrap();
    let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
    writer.data(&[1; 5]).unwrap();
    let error = writer.data(&[0; 8]).unwrap_err();
    assert!(
        matches!(&error, GgufWriteError::Data { given: 8, missing: 7, tensor, .. } if tensor == "a"),
        "{error}"
    );
    writer.data(&[]).unwrap();
    writer.data(&[2; 7]).unwrap();
    assert_eq!(writer.current().map(|tensor| tensor.name.as_str()), Some("b"));
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, GgufWriteError::Unfinished { missing: 4, .. }), "{error}");
    let bytes = write(&header, [&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2][..], &[3; 4]]);
    assert_eq!(bytes.len() as u64, header.file_bytes());
    let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
    writer.data(&[0; 12]).unwrap();
    writer.data(&[0; 4]).unwrap();
    assert!(matches!(writer.data(&[0]), Err(GgufWriteError::Data { missing: 0, .. })));
}

#[test]
fn an_output_that_is_full_is_reported() {
    let header = header(vec![]);
    let mut room = [0; 10];
    let error = GgufWriter::new(&mut room[..], &header).unwrap_err();
    assert!(matches!(error, GgufWriteError::Io { .. }), "{error}");
}

#[test]
fn a_file_by_hand_is_the_same() {
    let mut header = header(vec![("k".into(), Value::U32(5))]);
    header.tensor("a", format("F32"), &[4, 2]).unwrap();
    let file = File {
        entries: vec![crate::gguf_support::entry_u32("k", 5)],
        tensors: vec![crate::gguf_support::tensor("a", &[4, 2], 0, 0)],
        data: vec![9; 32],
        ..File::default()
    };
    assert_eq!(write(&header, [&[9; 32][..]]), file.bytes());
}

proptest! {
    #[test]
    fn any_tensors_in_pieces_of_any_size_are_read_back(
        alignment in prop_oneof![Just(None), (3u32..12).prop_map(|power| Some(1u32 << power))],
        tensors in prop::collection::vec((0..FORMATS.len(), 1u64..4, prop::collection::vec(1u64..4, 0..4)), 0..8),
        piece in 1usize..300,
        value in any::<u8>(),
    ) {
        let entries = alignment.map(|alignment| ("general.alignment".to_owned(), Value::U32(alignment)));
        let mut header = header(entries.into_iter().collect());
        for (index, (format, blocks, outer)) in tensors.iter().enumerate() {
            let format = TensorFormat::from_ggml(FORMATS[*format].ggml_type).unwrap();
            let shape: Vec<u64> = std::iter::once(blocks * format.block() as u64).chain(outer.clone()).take(4).collect();
            header.tensor(&format!("tensor.{index}"), format, &shape).unwrap();
        }
        let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
        let mut count = 0u8;
        while let Some(tensor) = writer.current() {
            let data: Vec<u8> = (0..tensor.bytes).map(|i| value.wrapping_add(count).wrapping_add(i as u8)).collect();
            data.chunks(piece).for_each(|piece| writer.data(piece).unwrap());
            count += 1;
        }
        let bytes = writer.finish().unwrap();
        prop_assert_eq!(bytes.len() as u64, header.file_bytes());
        let source = memory("out.gguf", bytes);
        let gguf = Gguf::read(slice::from_ref(&source)).unwrap();
        prop_assert_eq!(gguf.alignment, header.alignment());
        prop_assert_eq!(gguf.tensors.len(), tensors.len());
        for (index, (info, planned)) in gguf.tensors.iter().zip(header.tensors()).enumerate() {
            check_tensor(info, slice::from_ref(&source));
            prop_assert_eq!((&info.name, info.format, &info.shape), (&planned.name, planned.format, &planned.shape));
            prop_assert_eq!(info.range.start, header.data_start() + planned.offset);
            let data = source.read(info.range.clone()).unwrap();
            let right = data.iter().zip(0u64..).all(|(byte, i)| *byte == value.wrapping_add(index as u8).wrapping_add(i as u8));
            prop_assert!(right, "{}", info.name);
        }
    }
}
