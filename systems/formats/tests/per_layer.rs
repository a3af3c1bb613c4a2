//! Hyperparameters that a GGUF states for each layer. Equal values are read as one value; different ones are refused by
//! their key.

use std::path::Path;
use std::sync::Arc;
use weft_components::ModelConfig;
use weft_formats::gguf::{Array, Gguf, GgufHeader, GgufWriter, Metadata, Value};
use weft_formats::{ModelError, ModelFile};
use weft_platform::storage::{FileSource, MemorySource, Source};

/// Reads a model of `assets/golden/hf` with some metadata replaced.
fn read(name: &str, change: impl Fn(&str, &Value) -> Option<Value>) -> Result<ModelConfig, ModelError> {
    read_with(name, change, None)
}

/// Reads a model with some metadata replaced and one entry added.
fn read_with(
    name: &str,
    change: impl Fn(&str, &Value) -> Option<Value>,
    more: Option<(&str, Value)>,
) -> Result<ModelConfig, ModelError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../assets/golden/hf/{name}.gguf"));
    let source: Arc<dyn Source> = Arc::new(FileSource::open(&path).unwrap());
    let gguf = Gguf::read(std::slice::from_ref(&source)).unwrap();
    let changed = |(key, value): (&str, &Value)| {
        let value = change(key, value).unwrap_or_else(|| value.clone());
        (key.to_owned(), value)
    };
    let more = more.map(|(key, value)| (key.to_owned(), value));
    let metadata = Metadata::new(name, gguf.metadata.iter().map(changed).chain(more).collect()).unwrap();
    let mut header = GgufHeader::new(&metadata).unwrap();
    for tensor in &gguf.tensors {
        header.tensor(&tensor.name, tensor.format, &tensor.shape).unwrap();
    }
    let mut writer = GgufWriter::new(Vec::new(), &header).unwrap();
    for tensor in &gguf.tensors {
        writer.data(&source.read(tensor.range.clone()).unwrap()).unwrap();
    }
    let file: Arc<dyn Source> = Arc::new(MemorySource::new(name, writer.finish().unwrap()));
    Ok(ModelFile::read(vec![file])?.config)
}

/// Repeats a value for each of `layers` layers.
fn each(value: &Value, layers: usize) -> Option<Value> {
    Some(Value::Array(match *value {
        Value::U32(value) => Array::U32(vec![value; layers]),
        Value::F32(value) => Array::F32(vec![value; layers]),
        Value::Bool(value) => Array::Bool(vec![value; layers]),
        _ => return None,
    }))
}

#[test]
fn equal_values_are_one_value() {
    for (name, layers) in [("llama", 2), ("qwen3", 2), ("gemma3", 6), ("mixtral", 2)] {
        let plain = read(name, |_, _| None).unwrap();
        assert_eq!(plain.layers, layers);
        let prefix = format!("{}.", plain.architecture);
        let of_model = [format!("{prefix}block_count")];
        let found = read(name, |key, value| {
            let states = key.starts_with(&prefix) && !of_model.iter().any(|of_model| key == of_model);
            states.then(|| each(value, layers)).flatten()
        });
        assert_eq!(found.unwrap(), plain, "{name}");
    }
}

#[test]
fn unequal_values_are_refused_by_their_key() {
    let heads = "llama.attention.head_count_kv";
    for values in [vec![2, 1], vec![2], vec![2, 2, 2], vec![]] {
        let changed = |key: &str, _: &Value| (key == heads).then(|| Value::Array(Array::U32(values.clone())));
        match read("llama", changed).unwrap_err() {
            ModelError::BadMetadata { key, .. } => assert_eq!(key, heads, "{values:?}"),
            error => panic!("{values:?}: {error}"),
        }
    }
}

#[test]
fn which_layers_have_a_window_may_be_numbers() {
    let pattern = "gemma3.attention.sliding_window_pattern";
    let local = [true, false, true, false, false, true];
    let found = |array: Array| {
        let config = read_with("gemma3", |_, _| None, Some((pattern, Value::Array(array))))?;
        Ok::<_, ModelError>(config.layer.iter().map(|layer| layer.window.is_some()).collect::<Vec<_>>())
    };
    assert_eq!(found(Array::Bool(local.to_vec())).unwrap(), local);
    assert_eq!(found(Array::I32(local.map(i32::from).to_vec())).unwrap(), local);
    assert_eq!(found(Array::U8(local.map(u8::from).to_vec())).unwrap(), local);
    for wrong in [Array::Bool(vec![true; 5]), Array::Bool(vec![true; 7]), Array::F32(vec![1.0; 6])] {
        let error = found(wrong).unwrap_err();
        assert!(matches!(&error, ModelError::BadMetadata { key, .. } if key == pattern), "{error}");
    }
}
