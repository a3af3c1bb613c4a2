//! `weft inspect`: shows the contents of a model file, and the memory needed to run it.
//!
//! Works on every valid GGUF. If the engine cannot run the model, the report says why.

use super::inspect_model::ModelFacts;
use crate::args::InspectArgs;
use crate::error::CliError;
use crate::style::Style;
use crate::{host, memory, output};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::iter;
use std::path::Path;
use weft::gguf::{Array, Gguf, Metadata, TensorInfo, Value};
use weft::hugging_face::{HuggingFaceFolder, TensorOrigin, folder_of};
use weft::{KvFormat, ModelConfig, ModelError, ModelFile, ModelSource};

/// Minimum KV-cache tokens for which memory is reported: the engine's own default.
const KV_TOKENS: usize = 16_384;

#[derive(serde::Serialize)]
struct Report<'a> {
    file: String,
    version: u32,
    alignment: u64,
    /// Number of files of a split model.
    parts: usize,
    bytes: u64,
    architecture: Option<&'a str>,
    name: Option<&'a str>,
    /// True if this engine can run the model.
    supported: bool,
    /// Why the engine cannot run it.
    unsupported: Option<String>,
    parameters: u64,
    /// The model's hyperparameters; absent if the engine cannot run the model.
    model: Option<ModelFacts>,
    memory: Memory,
    metadata: MetadataJson<'a>,
    tensors: Vec<TensorJson<'a>>,
}

/// Bytes needed to run the model.
#[derive(serde::Serialize)]
struct Memory {
    weights: u64,
    kv_cache: Option<KvMemory>,
    total: u64,
}

/// A KV cache in the default format `f16`, for the model's context or [`KV_TOKENS`] if that is more.
#[derive(serde::Serialize)]
struct KvMemory {
    format: &'static str,
    bytes_per_token: u64,
    tokens: u64,
    bytes: u64,
}

#[derive(serde::Serialize)]
struct TensorJson<'a> {
    name: &'a str,
    format: &'static str,
    /// Dimensions with the innermost first, as in the file.
    shape: &'a [u64],
    part: usize,
    /// Offset from the beginning of its file.
    offset: u64,
    bytes: u64,
    /// For a folder, the files that hold the tensor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<&'a str>,
}

/// Runs the command.
pub(super) fn run(args: &InspectArgs) -> Result<(), CliError> {
    let path = host::model_file(Some(&args.file))?;
    let folder = folder_of(&path).map(|folder| HuggingFaceFolder::open(&folder));
    let folder = folder.transpose().map_err(|error| weft::Error::from(ModelError::from(error)))?;
    // One entry per tensor, in the same order.
    let origins = folder.as_ref().map_or_else(Vec::new, |folder| folder.origins().to_vec());
    let model =
        folder.map_or_else(|| ModelSource::from(path.as_path()).open(), |folder| Ok(folder.into()))?;
    let sources = model.sources.clone();
    let origins = origins.iter().map(Some).chain(iter::repeat(None));
    let gguf = Gguf::read(&sources)?;
    let (config, unsupported) = match ModelFile::read(model) {
        Ok(file) => (Some(file.config), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let text = |key: &str| gguf.metadata.opt_str(key).ok().flatten();
    let report = Report {
        file: path.display().to_string(),
        version: gguf.version,
        alignment: gguf.alignment,
        parts: sources.len(),
        bytes: sources.iter().map(|source| source.len()).sum(),
        architecture: text("general.architecture"),
        name: text("general.name"),
        supported: unsupported.is_none(),
        unsupported,
        parameters: gguf.tensors.iter().map(TensorInfo::elements).fold(0, u64::saturating_add),
        model: config.as_ref().map(ModelFacts::new),
        memory: memory_needed(&gguf, config.as_ref()),
        metadata: MetadataJson(&gguf.metadata),
        tensors: gguf.tensors.iter().zip(origins).map(tensor_json).collect(),
    };
    if args.json { output::json(&report) } else { output::text(&readable(&report, &gguf.metadata)) }
}

fn tensor_json<'a>((tensor, origin): (&'a TensorInfo, Option<&'a TensorOrigin>)) -> TensorJson<'a> {
    let mut files: Vec<_> =
        origin.into_iter().flat_map(|origin| &origin.tensors).map(|(file, _)| file.as_str()).collect();
    files.dedup();
    TensorJson {
        name: &tensor.name,
        format: tensor.format.name(),
        shape: &tensor.shape,
        part: tensor.source,
        offset: tensor.range.start,
        bytes: tensor.bytes(),
        files,
    }
}

/// Memory of the weights in the file's formats, and of a KV cache of the default size.
fn memory_needed(gguf: &Gguf, config: Option<&ModelConfig>) -> Memory {
    let weights = gguf.tensors.iter().map(TensorInfo::bytes).fold(0, u64::saturating_add);
    let kv_cache = config.map(|config| {
        let per_head = config.key_length.saturating_add(config.value_length);
        let elements = config.layers.saturating_mul(config.kv_heads).saturating_mul(per_head) as u64;
        let bytes_per_token = elements.saturating_mul(KvFormat::F16.bits() as u64 / 8);
        let tokens = KV_TOKENS.max(config.context) as u64;
        KvMemory { format: "f16", bytes_per_token, tokens, bytes: bytes_per_token.saturating_mul(tokens) }
    });
    let total = weights.saturating_add(kv_cache.as_ref().map_or(0, |kv| kv.bytes));
    Memory { weights, kv_cache, total }
}

/// Renders the report as text.
fn readable(report: &Report<'_>, metadata: &Metadata) -> String {
    let style = Style::stdout();
    let mut lines = Vec::new();
    let mut row =
        |name: &str, value: String| lines.push(format!("{} {value}", style.bold(&format!("{name:<13}"))));
    row("file", format!("{} ({}, {} part(s))", report.file, memory::human(report.bytes), report.parts));
    let folder = report.tensors.iter().any(|tensor| !tensor.files.is_empty());
    let held = if folder { "safetensors, read as " } else { "" };
    row("format", format!("{held}GGUF {}, alignment {}", report.version, report.alignment));
    row("architecture", report.architecture.unwrap_or("none named").to_owned());
    row("name", report.name.unwrap_or("none").to_owned());
    row("parameters", report.parameters.to_string());
    for (name, value) in report.model.iter().flat_map(ModelFacts::lines) {
        row(name, value);
    }
    row("supported", report.unsupported.as_ref().map_or("yes".to_owned(), |why| format!("no: {why}")));
    let needed = &report.memory;
    row("memory", format!("{} of weights", memory::human(needed.weights)));
    if let Some(kv) = &needed.kv_cache {
        let (bytes, token) = (memory::human(kv.bytes), memory::human(kv.bytes_per_token));
        row("", format!("{bytes} of KV cache for {} tokens, {token} per token in {}", kv.tokens, kv.format));
        row("", format!("{} in total", memory::human(needed.total)));
    }
    lines.push(String::new());
    lines.push(style.bold(&format!("metadata ({})", metadata.len())));
    lines.extend(metadata.iter().map(|(key, value)| format!("  {key} = {}", shortened(&value.to_string()))));
    lines.push(String::new());
    lines.push(style.bold(&format!("tensors ({})", report.tensors.len())));
    let width = report.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    lines.extend(report.tensors.iter().map(|tensor| {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        let (name, format, bytes) = (tensor.name, tensor.format, memory::human(tensor.bytes));
        let files: Vec<_> =
            tensor.files.iter().filter_map(|file| Path::new(file).file_name()?.to_str()).collect();
        let (shape, files) = (shape.join(" × "), files.join(", "));
        format!("  {name:<width$}  {format:<7}  {shape:<16}  {bytes:<9}  {files}").trim_end().to_owned()
    }));
    lines.push(String::new());
    lines.join("\n")
}

/// Shortens the text to one line of bounded length.
fn shortened(text: &str) -> String {
    const MOST: usize = 160;
    let mut short: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// Metadata as a JSON object: numbers stay numbers, and arrays are complete.
struct MetadataJson<'a>(&'a Metadata);

impl Serialize for MetadataJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0.iter() {
            map.serialize_entry(key, &ValueJson(value))?;
        }
        map.end()
    }
}

struct ValueJson<'a>(&'a Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(value) => serializer.serialize_u8(*value),
            Value::I8(value) => serializer.serialize_i8(*value),
            Value::U16(value) => serializer.serialize_u16(*value),
            Value::I16(value) => serializer.serialize_i16(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Array(value) => ArrayJson(value).serialize(serializer),
        }
    }
}

struct ArrayJson<'a>(&'a Array);

impl Serialize for ArrayJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Array::U8(values) => serializer.collect_seq(values),
            Array::I8(values) => serializer.collect_seq(values),
            Array::U16(values) => serializer.collect_seq(values),
            Array::I16(values) => serializer.collect_seq(values),
            Array::U32(values) => serializer.collect_seq(values),
            Array::I32(values) => serializer.collect_seq(values),
            Array::U64(values) => serializer.collect_seq(values),
            Array::I64(values) => serializer.collect_seq(values),
            Array::F32(values) => serializer.collect_seq(values),
            Array::F64(values) => serializer.collect_seq(values),
            Array::Bool(values) => serializer.collect_seq(values),
            Array::String(values) => serializer.collect_seq(values),
            Array::Array(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(&ArrayJson(value))?;
                }
                seq.end()
            }
        }
    }
}
