//! Hugging Face folders as saved by transformers (`assets/golden/hf/folders`). The logits equal those of transformers,
//! read from the folder and from its conversion, and both give the same model as llama.cpp's converter.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::golden;
use crate::common::reference::{MOST_DIFFERENCE, difference_from};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use weft::gguf::Gguf;
use weft::quantize::{Quantize, QuantizeOptions};
use weft::storage::Source;
use weft::{
    Engine, EngineOptions, Error, KvFormat, Message, ModelConfig, ModelError, ModelFile, ModelSource,
};
use weft::{SpecialTokens, VocabularyFile};

/// Names of all folders of the golden data.
pub(super) fn names() -> Vec<String> {
    let files = std::fs::read_dir(golden("hf/folders")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".zip")?.to_owned())).collect();
    names.sort();
    names
}

/// Unpacks a folder of the golden data.
pub(super) fn unpacked(name: &str) -> TempDir {
    let file = std::fs::File::open(golden(&format!("hf/folders/{name}.zip"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    zip::ZipArchive::new(file).unwrap().extract(folder.path()).unwrap();
    folder
}

/// The reference logits of a folder's model, stored beside it or beside the GGUF of the same model.
pub(super) fn reference(name: &str) -> serde_json::Value {
    let own = format!("hf/folders/{name}.json");
    crate::common::golden_json(&if golden(&own).exists() { own } else { format!("hf/{name}.json") })
}

fn open(path: &Path) -> Vec<Arc<dyn Source>> {
    ModelSource::from(path).open().unwrap().sources
}

/// Converts the folder's model to a file of this type.
fn converted(folder: &Path, mix: &str) -> Vec<u8> {
    let sources = open(folder);
    let plan = Quantize::new("converted.gguf", &sources, &QuantizeOptions::new(mix).unwrap()).unwrap();
    plan.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn folders_agree_with_transformers() {
    let names = names();
    assert!(names.len() >= 22, "{names:?}");
    let mut wrong = Vec::new();
    for name in &names {
        let (folder, reference) = (unpacked(name), reference(name));
        let difference = |source: ModelSource| {
            let mut engine = Engine::new(&EngineOptions::default()).unwrap();
            difference_from(&reference, name, source, &mut engine, KvFormat::F32).largest
        };
        let direct = difference(ModelSource::from(folder.path()));
        let file = ModelSource::memory(name, converted(folder.path(), "f32"));
        let through = difference(file);
        println!("{name}: {direct:.1e} of the largest logit, {through:.1e} converted");
        if !(direct <= MOST_DIFFERENCE && through <= MOST_DIFFERENCE) {
            wrong.push((name, direct, through));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A model's tensors: names, shapes without trailing ones, and values.
fn tensors(sources: &[Arc<dyn Source>]) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let gguf = Gguf::read(sources).unwrap();
    let values = |tensor: &weft::gguf::TensorInfo| {
        let bytes = sources[tensor.source].read(tensor.range.clone()).unwrap();
        let mut values = vec![0.0; tensor.elements() as usize];
        assert!(tensor.format.dequantize(&bytes, &mut values));
        (tensor.name.clone(), tensor.shape.clone(), values)
    };
    let mut tensors: Vec<_> = gguf.tensors.iter().map(values).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

#[test]
fn a_folder_is_the_model_that_llama_cpp_makes_of_it() {
    let same = |config: ModelConfig| ModelConfig { name: String::new(), ..config };
    let read = |sources| same(ModelFile::read(sources).unwrap().config);
    let mut compared = 0;
    for name in names() {
        let peer = golden(&format!("hf/{name}.gguf"));
        if !peer.exists() {
            continue;
        }
        compared += 1;
        let folder = unpacked(&name);
        let (ours, theirs) = (open(folder.path()), open(&peer));
        let (mut found, wanted) = (read(ours.clone()), read(theirs.clone()));
        if name == "mistral" {
            // llama.cpp's converter does not write the window.
            assert!(found.layer.iter_mut().all(|layer| layer.window.take() == Some(4096)));
            assert!(found.kv_classes.iter_mut().all(|class| class.window.take() == Some(4096)));
        }
        assert_eq!(found, wanted, "{name}");
        for ((name_of, shape, values), (peer_name, peer_shape, peer_values)) in
            tensors(&ours).into_iter().zip(tensors(&theirs))
        {
            assert_eq!((&name_of, shape), (&peer_name, peer_shape), "{name}");
            // RoPE frequency factors are computed; everything else is copied.
            let near = |(a, b): (&f32, &f32)| {
                a == b || (name_of == "rope_freqs.weight" && (a / b - 1.0).abs() < 1e-6)
            };
            assert!(values.iter().zip(&peer_values).all(near), "{name}: {name_of}");
        }
        assert_eq!(tensors(&ours).len(), tensors(&theirs).len(), "{name}");
    }
    assert!(compared >= 18, "{compared}");
}

#[test]
fn texts_have_the_ids_of_the_folder_s_tokenizer() {
    let (folder, reference) = (unpacked("llama3-text"), reference("llama3-text"));
    let file = ModelSource::memory("converted.gguf", converted(folder.path(), "bf16"));
    for source in [ModelSource::from(folder.path()), file] {
        let file = VocabularyFile::read(source).unwrap();
        for case in reference["texts"].as_array().unwrap() {
            let found = file.tokenizer.encode(case[0].as_str().unwrap(), SpecialTokens::Parse, true).unwrap();
            assert_eq!(found, crate::common::ids(&case[1]), "{case}");
        }
        let messages = [Message::new("user", "May I?")];
        let text = file.template.as_ref().unwrap().render(&messages, &file.template_vars(true)).unwrap();
        assert_eq!(text, "<|im_start|>user\nMay I?<|im_end|>\n<|im_start|>assistant\n");
    }
}

#[test]
fn a_folder_is_named_by_its_weights_too() {
    let (whole, split) = (unpacked("llama3"), unpacked("qwen2-bf16"));
    let index = "model.safetensors.index.json";
    assert!(split.path().join(index).exists());
    for (folder, file) in [(&whole, "model.safetensors"), (&split, index)] {
        let (named, direct) = (open(&folder.path().join(file)), open(folder.path()));
        assert_eq!(tensors(&named), tensors(&direct));
    }
    // A conversion to the weights' own format loses nothing.
    let file = converted(split.path(), "bf16");
    let sources: Vec<Arc<dyn Source>> = vec![Arc::new(weft::storage::MemorySource::new("converted", file))];
    assert_eq!(tensors(&sources), tensors(&open(split.path())));
}

#[test]
fn a_shard_that_is_missing_is_named() {
    let folder = unpacked("qwen2-bf16");
    let shard = "model-00002-of-";
    let file = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let file = file.into_iter().find(|path| path.to_str().unwrap().contains(shard)).unwrap();
    std::fs::remove_file(&file).unwrap();
    let Err(Error::Model(error)) = ModelSource::from(folder.path()).open() else {
        panic!("a part is missing")
    };
    assert!(matches!(&*error, ModelError::HuggingFace(_)) && error.to_string().contains(shard), "{error}");
}
