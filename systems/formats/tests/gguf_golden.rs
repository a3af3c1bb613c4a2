//! Compares the reader with that of the `gguf` Python package, and the formats with their numpy reference. See
//! `assets/golden/make_gguf_golden.py` for the contents of the dumps.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::sync::Arc;

use crate::gguf_support::{golden, golden_bytes, memory, walk};
use serde_json::{Value as Json, json};
use weft_components::TensorFormat;
use weft_formats::gguf::{Array, Gguf, GgufError, Value, ValueType, open_files};
use weft_platform::storage::Source;

/// Returns the name of a type in the dumps.
fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::U8 => "UINT8",
        ValueType::I8 => "INT8",
        ValueType::U16 => "UINT16",
        ValueType::I16 => "INT16",
        ValueType::U32 => "UINT32",
        ValueType::I32 => "INT32",
        ValueType::U64 => "UINT64",
        ValueType::I64 => "INT64",
        ValueType::F32 => "FLOAT32",
        ValueType::F64 => "FLOAT64",
        ValueType::Bool => "BOOL",
        ValueType::String => "STRING",
        ValueType::Array => "ARRAY",
    }
}

/// Converts an array to the dumps' JSON, with its nesting. Floats are stored as bits.
fn array_json(array: &Array) -> Json {
    match array {
        Array::U8(values) => json!(values),
        Array::I8(values) => json!(values),
        Array::U16(values) => json!(values),
        Array::I16(values) => json!(values),
        Array::U32(values) => json!(values),
        Array::I32(values) => json!(values),
        Array::U64(values) => json!(values),
        Array::I64(values) => json!(values),
        Array::F32(values) => values.iter().map(|value| value.to_bits()).collect(),
        Array::F64(values) => values.iter().map(|value| value.to_bits()).collect(),
        Array::Bool(values) => json!(values),
        Array::String(values) => json!(values),
        Array::Array(values) => values.iter().map(array_json).collect(),
    }
}

fn flatten(json: Json) -> Vec<Json> {
    match json {
        Json::Array(values) => values.into_iter().flat_map(flatten).collect(),
        value => vec![value],
    }
}

/// Returns the types and the value of an entry as in the dumps.
fn entry_json(value: &Value) -> Json {
    let mut types = vec![type_name(value.value_type())];
    let content = match value {
        Value::U8(value) => json!(value),
        Value::I8(value) => json!(value),
        Value::U16(value) => json!(value),
        Value::I16(value) => json!(value),
        Value::U32(value) => json!(value),
        Value::I32(value) => json!(value),
        Value::U64(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::F32(value) => json!(value.to_bits()),
        Value::F64(value) => json!(value.to_bits()),
        Value::Bool(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Array(array) => {
            let mut inner = array;
            types.push(type_name(inner.element_type()));
            while let Array::Array(arrays) = inner {
                inner = &arrays[0];
                types.push(type_name(inner.element_type()));
            }
            Json::Array(flatten(array_json(array)))
        }
    };
    json!([types, content])
}

fn tensors_json(gguf: &Gguf, source: usize, file: &dyn Source) -> Json {
    let row = |info: &weft_formats::gguf::TensorInfo| {
        let mut crc = flate2::Crc::new();
        crc.update(&file.read(info.range.clone()).unwrap());
        json!([info.name, info.format.name(), info.shape, info.range.start, info.bytes(), crc.sum()])
    };
    gguf.tensors.iter().filter(|info| info.source == source).map(row).collect()
}

fn dump(name: &str) -> Json {
    serde_json::from_slice(&golden_bytes(&format!("gguf/{name}.gguf.json"))).unwrap()
}

fn check_metadata(gguf: &Gguf, dump: &Json) {
    assert_eq!(json!(gguf.version), dump["version"]);
    assert_eq!(json!(gguf.alignment), dump["alignment"]);
    let fields = dump["fields"].as_array().unwrap();
    assert_eq!(gguf.metadata.len(), fields.len());
    for ((key, value), field) in gguf.metadata.iter().zip(fields) {
        assert_eq!(key, field[0]);
        assert_eq!(entry_json(value), json!([field[1], field[2]]), "{key}");
    }
    for (key, nested) in dump["nested"].as_object().unwrap() {
        let Some(Value::Array(array)) = gguf.metadata.get(key) else { panic!("{key} is not an array") };
        assert_eq!(array_json(array), *nested, "{key}");
    }
    assert_eq!(gguf.metadata.lossy_keys().count(), 0);
}

/// Reads a file from a memory map and from memory, and compares both with the dump.
fn check(path: &str, name: &str) -> usize {
    let dump = dump(name);
    let path = format!("{path}/{name}.gguf");
    let mapped = open_files(&golden(&path)).unwrap();
    let buffered = vec![memory("buffer", golden_bytes(&path))];
    for sources in [mapped, buffered] {
        let gguf = Gguf::read(&sources).unwrap();
        check_metadata(&gguf, &dump);
        assert_eq!(tensors_json(&gguf, 0, &*sources[0]), dump["tensors"]);
        walk(&gguf, &sources);
    }
    dump["tensors"].as_array().unwrap().len()
}

#[test]
fn every_type_in_both_versions() {
    for name in ["types-v2", "types-v3"] {
        assert_eq!(check("gguf", name), 9);
    }
}

#[test]
fn alignments() {
    for name in ["align-8", "align-64", "align-4096"] {
        assert_eq!(check("gguf", name), 5);
    }
}

#[test]
fn a_vocabulary_without_tensors() {
    assert_eq!(check("gguf", "vocab-only"), 0);
}

#[test]
fn tiny_models() {
    for name in ["tiny-llama", "tiny-llama31", "tiny-mistral"] {
        assert!(check("tiny", name) > 10);
    }
}

#[test]
fn a_split_model_from_any_of_its_parts() {
    let names: Vec<String> = (1..=3).map(|part| format!("split-{part:05}-of-00003")).collect();
    for name in &names {
        let sources = open_files(&golden(&format!("gguf/{name}.gguf"))).unwrap();
        assert_eq!(sources.len(), 3);
        let gguf = Gguf::read(&sources).unwrap();
        check_metadata(&gguf, &dump(&names[0]));
        assert_eq!(gguf.tensors.len(), 8);
        for (part, name) in names.iter().enumerate() {
            assert_eq!(tensors_json(&gguf, part, &*sources[part]), dump(name)["tensors"]);
        }
        walk(&gguf, &sources);
    }
}

#[test]
fn a_big_endian_file_is_named_as_such() {
    let error = Gguf::read(&[memory("big.gguf", golden_bytes("gguf/big-endian.gguf"))]).unwrap_err();
    assert!(matches!(error, GgufError::BigEndian { version: 3, .. }), "{error}");
    assert!(error.to_string().contains("big.gguf"), "{error}");
}

/// A slow source delivers the header in many reads. The result must not depend on them.
#[test]
fn windows_do_not_show() {
    let tokens: Vec<String> = (0..40_000).map(|i| format!("token number {i}")).collect();
    let payload: Vec<u8> = tokens.iter().flat_map(crate::gguf_support::string).collect();
    let numbers: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = crate::gguf_support::File {
        entries: vec![
            crate::gguf_support::entry("tokens", 9, &crate::gguf_support::array(8, 40_000, &payload)),
            crate::gguf_support::entry("numbers", 9, &crate::gguf_support::array(4, 300_000, &numbers)),
            crate::gguf_support::entry("after", 4, &7_u32.to_le_bytes()),
        ],
        ..Default::default()
    };
    let gguf = file.read().unwrap();
    assert_eq!(gguf.metadata.strings("tokens").unwrap(), tokens);
    assert!(gguf.metadata.u32s("numbers").unwrap().iter().copied().eq(0..300_000));
    assert_eq!(gguf.metadata.u32("after").unwrap(), 7);
}

/// Compares every supported format bit for bit. All factors except a float scale have so few bits that the order of the
/// numpy reference's multiplications does not matter, and there is at most one addition, never fused.
#[test]
fn dequantized_values() {
    let sources = open_files(&golden("golden-dequant.gguf")).unwrap();
    let gguf = Gguf::read(&sources).unwrap();
    assert_eq!(gguf.tensors.len(), 48);
    walk(&gguf, &sources);
    let read = |name: &str| {
        let info = gguf.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
        (info.format, sources[0].read(info.range.clone()).unwrap())
    };
    let mut checked = 0;
    for info in gguf.tensors.iter().filter(|info| !info.name.ends_with(".f32")) {
        let name = &*info.name;
        let (format, bytes) = read(name);
        assert_eq!(format.name(), name);
        // The F32 tensors of the file are the expected values.
        let (f32_format, expected) = read(&format!("{name}.f32"));
        assert_eq!(Some(f32_format), TensorFormat::from_name("F32"));
        let (floats, []) = expected.as_chunks::<4>() else { panic!("{name}: part of a float") };
        assert_eq!(floats.len(), 4 * 512);
        for (format, bytes) in [(format, &bytes), (f32_format, &expected)] {
            let mut values = vec![0.0_f32; floats.len()];
            assert!(format.dequantize(bytes, &mut values), "{name}");
            for (i, (value, &expected)) in values.iter().zip(floats).enumerate() {
                let (value, expected) = (value.to_bits(), u32::from_le_bytes(expected));
                assert_eq!(value, expected, "{name}[{i}] as {format}: {value:#010x}, not {expected:#010x}");
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 24);
}

/// `open_files` cannot find parts in different folders, but a caller can pass them as sources.
#[test]
fn parts_need_not_be_files() {
    let sources: Vec<Arc<dyn Source>> = (1..=3)
        .map(|part| {
            memory(&format!("part {part}"), golden_bytes(&format!("gguf/split-{part:05}-of-00003.gguf")))
        })
        .collect();
    assert_eq!(Gguf::read(&sources).unwrap().tensors.len(), 8);
}
