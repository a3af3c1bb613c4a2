//! GGUF adapters, as llama.cpp's `convert_lora_to_gguf.py` writes them.
//!
//! `general.type` is `adapter` and `adapter.type` is `lora`. The tensors of a pair have the name of the matrix that
//! they change, followed by `.lora_a` or `.lora_b`: A is `[rank, inputs]` and B is `[outputs, rank]`, outer dimension
//! first.

use super::{AdapterBase, AdapterError, AdapterFile, Half, Reader, Target};
use crate::gguf::{Gguf, TensorInfo};
use crate::hugging_face::RowOrder;
use std::sync::Arc;
use weft_platform::storage::Source;

const KIND: &str = "general.type";
const ADAPTER_KIND: &str = "adapter.type";
const ARCHITECTURE: &str = "general.architecture";
const ALPHA: &str = "adapter.lora.alpha";

/// Keys under `adapter.` that the engine reads or that do not change the result.
const KNOWN: [&str; 4] = [ADAPTER_KIND, ALPHA, "adapter.lora.task_name", "adapter.lora.prompt_prefix"];

const DOWN: &str = ".lora_a";
const UP: &str = ".lora_b";

pub(super) fn read(sources: &[Arc<dyn Source>], base: &AdapterBase<'_>) -> Result<AdapterFile, AdapterError> {
    let gguf = Gguf::read(sources)?;
    let file = sources.first().map_or("", |source| source.name());
    let metadata = &gguf.metadata;
    for (key, wanted) in [(KIND, "adapter"), (ADAPTER_KIND, "lora")] {
        let found = metadata.opt_str(key)?;
        if found != Some(wanted) {
            let found = found.map_or("not there".to_owned(), |found| format!("`{found}`"));
            return Err(AdapterError::NotAnAdapter { file: file.to_owned(), key, found, wanted });
        }
    }
    let architecture = metadata.str(ARCHITECTURE)?;
    if architecture != base.config.architecture {
        return Err(AdapterError::OtherArchitecture {
            file: file.to_owned(),
            found: architecture.to_owned(),
            wanted: base.config.architecture.clone(),
        });
    }
    let unknown = metadata.iter().find(|(key, _)| key.starts_with("adapter.") && !KNOWN.contains(key));
    if let Some((key, value)) = unknown {
        return Err(AdapterError::UnsupportedField {
            file: file.to_owned(),
            field: key.to_owned(),
            value: value.to_string(),
            remedy: "a newer version may read it",
        });
    }
    let alpha = metadata.f32(ALPHA)?;
    if !alpha.is_finite() {
        return Err(AdapterError::BadField {
            file: file.to_owned(),
            field: ALPHA.to_owned(),
            value: alpha.to_string(),
            wanted: "a number",
        });
    }
    let mut reader = Reader::new(file, base);
    for tensor in &gguf.tensors {
        let Some(name) = tensor.name.strip_suffix(DOWN) else {
            let there = tensor.name.strip_suffix(UP).map(|name| format!("{name}{DOWN}"));
            let down = there.ok_or_else(|| reader.unknown(&tensor.name))?;
            if gguf.tensor(&down).is_none() {
                return Err(reader.missing(down));
            }
            continue;
        };
        let up_name = format!("{name}{UP}");
        let up = gguf.tensor(&up_name).ok_or_else(|| reader.missing(up_name))?;
        let (layer, roles) = base.gguf_roles(name).ok_or_else(|| reader.no_such(name))?;
        let halves = [half(tensor, sources, &reader)?, half(up, sources, &reader)?];
        // An alpha of 0 means that there is none: llama.cpp then uses the matrices unscaled.
        let scale = |rank: usize| if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
        reader.pair(&Target { name, layer, roles }, halves.each_ref(), RowOrder::Same, scale)?;
    }
    let name = metadata.opt_str("general.name")?.unwrap_or(file);
    reader.finish(name)
}

/// Reads a tensor of two dimensions.
fn half(tensor: &TensorInfo, sources: &[Arc<dyn Source>], reader: &Reader<'_>) -> Result<Half, AdapterError> {
    let dimension = |n: usize| tensor.shape.get(n).copied().unwrap_or(1);
    if tensor.shape.iter().skip(2).any(|n| *n != 1) {
        return Err(reader.unknown(&tensor.name));
    }
    let source = sources.get(tensor.source).ok_or_else(|| reader.missing(tensor.name.clone()))?;
    Ok(Half {
        name: tensor.name.clone(),
        format: tensor.format,
        rows: dimension(1),
        cols: dimension(0),
        bytes: source.read(tensor.range.clone())?,
    })
}
