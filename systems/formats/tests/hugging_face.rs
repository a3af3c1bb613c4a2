//! Invalid folders give errors that name the problem. Folders with another layout give the same model.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use weft_formats::gguf::{Gguf, TensorInfo};
use weft_formats::hugging_face::{HuggingFaceError as E, HuggingFaceFolder};
use weft_formats::{ModelError, ModelFile};
use weft_platform::storage::{MemorySource, Source};

/// A tensor: name, dtype and shape, outermost first.
type Tensor = (String, &'static str, Vec<u64>);

fn tensor(name: &str, dtype: &'static str, shape: &[u64]) -> Tensor {
    (name.to_owned(), dtype, shape.to_vec())
}

/// Makes a file of these tensors. The values are small numbers that identify their position.
fn file(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, dtype, shape) in tensors {
        let start = data.len();
        for element in 0..shape.iter().product::<u64>() {
            let value = (element % 61) as f32 - 30.0;
            match *dtype {
                "F32" => data.extend(value.to_le_bytes()),
                "BF16" => data.extend(half::bf16::from_f32(value).to_le_bytes()),
                "F16" => data.extend(half::f16::from_f32(value).to_le_bytes()),
                "I64" => data.extend((value as i64).to_le_bytes()),
                _ => data.push(value as i8 as u8),
            }
        }
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
        assert!(header.insert(name.clone(), entry).is_none());
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// The tensors of a Llama with two layers: 4 query heads of width 8, 2 KV heads.
fn llama() -> Vec<Tensor> {
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", "BF16", &[64, 32]),
        tensor("model.norm.weight", "BF16", &[32]),
        tensor("lm_head.weight", "BF16", &[64, 32]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[32][..]),
            ("post_attention_layernorm", &[32]),
            ("self_attn.q_proj", &[32, 32]),
            ("self_attn.k_proj", &[16, 32]),
            ("self_attn.v_proj", &[16, 32]),
            ("self_attn.o_proj", &[32, 32]),
            ("mlp.gate_proj", &[48, 32]),
            ("mlp.up_proj", &[48, 32]),
            ("mlp.down_proj", &[32, 48]),
        ] {
            tensors.push(tensor(&format!("model.layers.{layer}.{name}.weight"), "BF16", shape));
        }
    }
    tensors
}

/// The same model with separate expert tensors instead of the feed-forward network.
fn mixtral() -> Vec<Tensor> {
    let mut tensors = llama();
    tensors.retain(|(name, ..)| !name.contains("mlp"));
    for layer in 0..2 {
        let name = |rest: &str| format!("model.layers.{layer}.block_sparse_moe.{rest}.weight");
        tensors.push(tensor(&name("gate"), "BF16", &[3, 32]));
        for expert in 0..3 {
            for (part, shape) in [("w1", [48, 32]), ("w2", [32, 48]), ("w3", [48, 32])] {
                tensors.push(tensor(&name(&format!("experts.{expert}.{part}")), "BF16", &shape));
            }
        }
    }
    tensors
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "vocab_size": 64, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut config = config();
    config[field] = value;
    config
}

fn mixtral_config() -> Value {
    let mut config = with("model_type", json!("mixtral"));
    config["num_local_experts"] = json!(3);
    config["num_experts_per_tok"] = json!(2);
    config
}

fn open(config: &Value, files: &[Vec<u8>]) -> Result<HuggingFaceFolder, E> {
    let file = |(index, bytes): (usize, &Vec<u8>)| -> Arc<dyn Source> {
        Arc::new(MemorySource::new(format!("folder/{index}.safetensors"), bytes.clone()))
    };
    let files = files.iter().enumerate().map(file).collect();
    HuggingFaceFolder::from_files("folder", config.to_string().as_bytes(), None, files)
}

#[track_caller]
fn refused(config: &Value, files: &[Vec<u8>]) -> E {
    match open(config, files) {
        Ok(_) => panic!("an invalid folder was opened: {config}"),
        Err(error) => error,
    }
}

/// Returns the tensors of a folder's GGUF with their bytes.
fn tensors(folder: &HuggingFaceFolder) -> Vec<(TensorInfo, Vec<u8>)> {
    let source = folder.source();
    let gguf = Gguf::read(std::slice::from_ref(&source)).unwrap();
    let bytes = |tensor: &TensorInfo| source.read(tensor.range.clone()).unwrap().to_vec();
    gguf.tensors.iter().map(|tensor| (tensor.clone(), bytes(tensor))).collect()
}

#[test]
fn a_folder_is_a_gguf_that_the_engine_reads() {
    for (config, list) in [(config(), llama()), (mixtral_config(), mixtral())] {
        let folder = open(&config, &[file(&list)]).unwrap();
        let origins: Vec<_> = folder.origins().iter().map(|origin| origin.name.clone()).collect();
        let found = tensors(&folder);
        assert_eq!(found.iter().map(|(tensor, _)| tensor.name.clone()).collect::<Vec<_>>(), origins);
        assert_eq!(origins[0], "token_embd.weight");
        let file = ModelFile::read(folder).unwrap();
        assert_eq!((file.config.layers, file.config.vocabulary, file.tokenizer.is_none()), (2, 64, true));
    }
}

#[test]
fn what_lies_in_several_files_is_what_lies_in_one() {
    let list = mixtral();
    let whole = open(&mixtral_config(), &[file(&list)]).unwrap();
    for at in [1, 7, 15, list.len() - 1] {
        let (first, second) = list.split_at(at);
        let split = open(&mixtral_config(), &[file(first), file(second)]).unwrap();
        let without_place = |(tensor, bytes): (TensorInfo, Vec<u8>)| (tensor.name, tensor.shape, bytes);
        let parts = |folder| tensors(folder).into_iter().map(without_place).collect::<Vec<_>>();
        assert!(parts(&split) == parts(&whole), "at {at}");
    }
}

#[test]
fn a_source_gives_any_range_of_its_bytes() {
    let folder = open(&config(), &[file(&llama())]).unwrap();
    let source = folder.source();
    let whole = source.read(0..source.len()).unwrap();
    let step = 777;
    for start in (0..source.len()).step_by(step) {
        for len in [0, 1, 63, 5000] {
            let end = (start + len).min(source.len());
            assert_eq!(&*source.read(start..end).unwrap(), &whole[start as usize..end as usize]);
        }
    }
    let backwards = std::ops::Range { start: 2, end: 1 };
    for outside in [0..source.len() + 1, source.len() + 1..source.len() + 2, 0..u64::MAX, backwards] {
        assert!(source.read(outside).is_err());
    }
}

#[test]
fn configurations_that_are_wrong_are_refused_by_field() {
    let files = [file(&llama())];
    let bad = |field: &str, value: Value| match refused(&with(field, value.clone()), &files) {
        E::BadField { field: found, .. } => assert_eq!(found, field, "{value}"),
        error => panic!("{field} = {value}: {error}"),
    };
    for field in ["num_attention_heads", "num_hidden_layers", "num_key_value_heads"] {
        for value in [json!(0), json!(-1), json!(1u64 << 63), json!("4"), json!(2.5), json!([4])] {
            bad(field, value);
        }
    }
    bad("hidden_act", json!("gelu"));
    bad("rms_norm_eps", json!("small"));
    bad("head_dim", json!(0));
    bad("head_dim", json!(1u64 << 40));
    bad("rope_parameters", json!([1]));
    bad("partial_rotary_factor", json!(0.5));
    bad("layer_types", json!(["full_attention", "sliding_attention"]));
    for kind in ["ntk", "mrope-interleaved"] {
        assert!(matches!(refused(&with("rope_scaling", json!({"type": kind, "factor": 2.0})), &files),
            E::BadField { field, .. } if field == "rope_parameters.rope_type"));
    }
    assert!(matches!(refused(&with("rope_scaling", json!({"type": "dynamic", "alpha": 1000.0})), &files),
        E::BadField { field, .. } if field == "rope_parameters.alpha"));
    assert!(matches!(refused(&with("rope_scaling", json!({"rope_type": "llama3", "factor": 2.0})), &files),
        E::MissingField { field, .. } if field == "rope_parameters.low_freq_factor"));
    for (field, value) in [
        ("logit_scale", json!(0.5)),
        ("logits_scaling", json!(8.0)),
        ("attention_multiplier", json!(0.015625)),
        ("attn_logit_softcapping", json!(30.0)),
        ("alibi", json!(true)),
        ("no_rope_layers", json!([1, 0])),
        ("rotary_pct", json!(0.25)),
        ("swiglu_limit", json!(7.0)),
        ("attention_chunk_size", json!(8192)),
        ("num_kv_shared_layers", json!(1)),
    ] {
        assert!(
            matches!(refused(&with(field, value), &files), E::UnknownField { field: found, .. } if found == field)
        );
    }
    for field in ["hidden_size", "vocab_size", "model_type", "num_hidden_layers"] {
        assert!(
            matches!(refused(&with(field, Value::Null), &files), E::MissingField { field: found, .. } if found == field)
        );
    }
    let later = refused(&with("model_type", json!("modernbert")), &files);
    assert!(matches!(&later, E::LaterModel { model_type, .. } if model_type == "modernbert"), "{later}");
    let unknown = refused(&with("model_type", json!("abacus")), &files).to_string();
    assert!(unknown.contains("abacus") && unknown.contains("qwen3_moe"), "{unknown}");
    for text in ["", "[]", "{", "null", "\u{0}", "{\"a\":1}}"] {
        let opened = HuggingFaceFolder::from_files("folder", text.as_bytes(), None, Vec::new());
        assert!(matches!(opened, Err(E::Json { file, .. }) if file == "folder/config.json"), "{text}");
    }
    // The largest 64-bit numbers, in fields that are added to or converted.
    let mut bert = with("model_type", json!("roberta"));
    bert["hidden_act"] = json!("gelu");
    for most in [u64::MAX, u64::MAX - 1] {
        bert["pad_token_id"] = json!(most);
        let field = if most == u64::MAX { "pad_token_id" } else { "max_position_embeddings" };
        let error = refused(&bert, &files);
        assert!(matches!(&error, E::BadField { field: found, .. } if found == field), "{most}: {error}");
    }
    for context in [json!(-5), json!(u64::MAX), json!(1e300), json!(64.5)] {
        for kind in ["default", "yarn", "llama3", "longrope"] {
            let scaling = json!({"rope_type": kind, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": context});
            let error = refused(&with("rope_scaling", scaling), &files);
            assert!(
                matches!(&error, E::BadField { field, .. } if field == "original_max_position_embeddings"),
                "{kind} {context}: {error}"
            );
        }
    }
    let factors = json!({"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 64,
        "long_factor": [1.0, 1.0, 1.0, 1e300], "short_factor": [1.0, 1.0, 1.0, 1.0]});
    assert!(matches!(refused(&with("rope_scaling", factors), &files),
        E::BadField { field, .. } if field == "rope_parameters.long_factor"));
    // Hyperparameters that contradict the tensors give an error when the model is read.
    for (field, value) in [("hidden_size", json!(64)), ("intermediate_size", json!(1u64 << 40))] {
        assert!(ModelFile::read(open(&with(field, value), &files).unwrap()).is_err(), "{field}");
    }
}

#[test]
fn tensors_that_are_wrong_are_refused_by_name() {
    let changed = |name: &str, dtype: &'static str, shape: &[u64]| {
        let mut list = llama();
        list.retain(|(found, ..)| found != name);
        list.push(tensor(name, dtype, shape));
        refused(&config(), &[file(&list)])
    };
    let q = "model.layers.1.self_attn.q_proj.weight";
    assert!(matches!(changed(q, "I64", &[32, 32]), E::Dtype { tensor, dtype: "I64", .. } if tensor == q));
    assert!(matches!(changed(q, "F8_E4M3", &[32, 32]), E::Dtype { .. }));
    for shape in [&[30, 32][..], &[4, 32], &[32, 0], &[2, 32, 32], &[], &[1, 1, 32, 32]] {
        assert!(matches!(changed(q, "F32", shape), E::Shape { tensor, .. } if tensor == q), "{shape:?}");
    }
    let odd = "model.layers.0.self_attn.q_proj.weight_scale";
    assert!(matches!(changed(odd, "F32", &[1]), E::UnknownTensor { tensor, .. } if tensor == odd));
    let twice = refused(&config(), &[file(&llama()), file(&llama()[2..3])]);
    assert!(matches!(twice, E::DuplicateTensor { tensor, .. } if tensor == "lm_head.weight"));
    let mut list = llama();
    list.remove(2);
    let headless =
        |config: &Value| ModelFile::read(open(config, &[file(&list)]).unwrap()).unwrap().config.headless;
    assert!(headless(&config()) && !headless(&with("tie_word_embeddings", json!(true))));
    assert!(!ModelFile::read(open(&config(), &[file(&llama())]).unwrap()).unwrap().config.headless);
    let mut list = mixtral();
    list.retain(|(name, ..)| name != "model.layers.1.block_sparse_moe.experts.1.w3.weight");
    let lacks = refused(&mixtral_config(), &[file(&list)]).to_string();
    assert!(lacks.contains("expert 1") && lacks.contains("layers.1") && lacks.contains("w3"), "{lacks}");
    let more = tensor("model.layers.1.block_sparse_moe.experts.3.w3.weight", "BF16", &[48, 32]);
    let mut list = mixtral();
    list.push(more);
    assert!(matches!(refused(&mixtral_config(), &[file(&list)]), E::Shape { .. }));
    let mut list = llama();
    list.retain(|(name, ..)| name != "model.layers.0.mlp.up_proj.weight");
    let read = ModelFile::read(open(&config(), &[file(&list)]).unwrap());
    assert!(
        matches!(read.err().unwrap(), ModelError::MissingTensor { name, .. } if name == "blk.0.ffn_up.weight")
    );
}

/// Fields that `transformers` once stored in configurations, that trainers leave there, and unknown ones.
#[test]
fn fields_that_change_no_logit_are_ignored() {
    let files = [file(&llama())];
    for (field, value) in [
        ("frobnicate", json!(3)),
        ("_name_or_path", json!("/home/me/model")),
        ("auto_map", json!({"AutoModel": "modeling.Model"})),
        ("max_length", json!(4096)),
        ("temperature", json!(0.7)),
        ("top_k", json!(50)),
        ("do_sample", json!(true)),
        ("no_repeat_ngram_size", json!(3)),
        ("task_specific_params", json!({"text-generation": {"max_length": 50}})),
        ("id2label", json!({"0": "no", "1": "yes"})),
        ("finetuning_task", json!("sst2")),
        ("pretraining_tp", json!(2)),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "default"})),
        ("logit_scale", json!(1.0)),
        ("num_key_value_heads", json!([2, 2])),
        ("intermediate_size", json!([48, 48])),
        // The weights are not quantized, although the field is still present.
        ("quantization_config", json!({"quant_method": "bitsandbytes", "load_in_4bit": true})),
    ] {
        let read = ModelFile::read(open(&with(field, value.clone()), &files).unwrap()).unwrap().config;
        let plain = ModelFile::read(open(&config(), &files).unwrap()).unwrap().config;
        assert_eq!(read, plain, "{field} = {value}");
    }
    let unequal = refused(&with("num_key_value_heads", json!([2, 4])), &files).to_string();
    assert!(unequal.contains("num_key_value_heads") && unequal.contains("[2,4]"), "{unequal}");
}

#[test]
fn quantized_weights_are_refused_by_their_method() {
    let gptq = with("quantization_config", json!({"quant_method": "gptq", "bits": 4}));
    let q = "model.layers.1.self_attn.q_proj.";
    for (name, dtype) in [("qweight", "I64"), ("weight", "I64"), ("weight_scale", "F32")] {
        let mut list = llama();
        list.retain(|(found, ..)| *found != format!("{q}weight"));
        list.push(tensor(&format!("{q}{name}"), dtype, &[32, 32]));
        assert!(matches!(refused(&gptq, &[file(&list)]),
            E::BadField { field, value, .. } if field == "quantization_config.quant_method" && value.contains("gptq")));
    }
    // BitNet's weights are rounded when they are used.
    let bitnet = with("quantization_config", json!({"quant_method": "bitnet"}));
    assert!(
        matches!(refused(&bitnet, &[file(&llama())]), E::BadField { value, .. } if value.contains("bitnet"))
    );
}

#[test]
fn names_without_their_prefix_are_those_of_the_bare_model() {
    let whole = open(&with("tie_word_embeddings", json!(true)), &[file(&llama())]).unwrap();
    for prefix in ["", "language_model.model."] {
        let mut list = llama();
        for (name, ..) in &mut list {
            *name = name.replace("model.", prefix);
        }
        list.push(tensor("score.weight", "BF16", &[2, 32]));
        let bare = open(&with("tie_word_embeddings", json!(true)), &[file(&list)]).unwrap();
        let of = |folder| {
            tensors(folder).into_iter().map(|(tensor, bytes)| (tensor.name, bytes)).collect::<Vec<_>>()
        };
        assert!(of(&bare) == of(&whole), "{prefix:?}");
    }
    let twice = refused(&config(), &[file(&llama()), file(&[tensor("norm.weight", "BF16", &[32])])]);
    assert!(matches!(twice, E::DuplicateTensor { tensor, .. } if tensor == "norm.weight"));
}

#[test]
fn files_cut_short_are_refused() {
    let whole = file(&llama());
    for len in (0..whole.len()).step_by(101).chain([whole.len() - 1]) {
        assert!(matches!(refused(&config(), &[whole[..len].to_vec()]), E::Safetensors(_)), "{len} bytes");
    }
}

#[test]
fn an_index_names_files_beside_it_and_what_is_in_them() {
    let (list, parent) = (llama(), tempfile::tempdir().unwrap());
    let folder = parent.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let opened = || HuggingFaceFolder::open(&folder).map(drop);
    assert!(matches!(opened(), Err(E::NotAModel { wanted: "config.json", .. })));
    write("config.json", config().to_string().as_bytes());
    assert!(matches!(opened(), Err(E::NotAModel { .. })));
    let (a, b) = list.split_at(9);
    write("a.safetensors", &file(a));
    write("b.safetensors", &file(b));
    let index = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let entries = |list: &[Tensor], file: &str| {
            list.iter().map(|(name, ..)| (name.clone(), json!(file))).collect::<Vec<_>>()
        };
        let mut map: serde_json::Map<_, _> =
            entries(a, "a.safetensors").into_iter().chain(entries(b, "b.safetensors")).collect();
        change(&mut map);
        write("model.safetensors.index.json", json!({"weight_map": map}).to_string().as_bytes());
    };
    index(&|_| {});
    opened().unwrap();
    write("../x.safetensors", &file(a));
    for name in
        [json!("../x.safetensors"), json!("/etc/passwd"), json!(".."), json!(7), json!("sub/a.safetensors")]
    {
        index(&|map| drop(map.insert("lm_head.weight".to_owned(), name.clone())));
        assert!(
            matches!(opened(), Err(E::ForeignFile { tensor, .. }) if tensor == "lm_head.weight"),
            "{name}"
        );
    }
    index(&|map| drop(map.insert("lm_head.weight".to_owned(), json!("c.safetensors"))));
    assert!(matches!(opened(), Err(E::MissingFile { file, .. }) if file.ends_with("c.safetensors")));
    index(&|map| drop(map.insert("lm_head.weight".to_owned(), json!("b.safetensors"))));
    assert!(
        matches!(opened(), Err(E::MissingTensor { folder, tensor }) if folder.ends_with("b.safetensors") && tensor == "lm_head.weight")
    );
    for text in ["", "{}", r#"{"weight_map":{}}"#, r#"{"weight_map":3}"#] {
        write("model.safetensors.index.json", text.as_bytes());
        assert!(matches!(opened(), Err(E::Json { .. } | E::MissingField { .. })), "{text}");
    }
    let missing = HuggingFaceFolder::open(Path::new("nowhere"));
    assert!(matches!(missing, Err(E::NotAModel { .. })));
}

/// A Gemma 3 with vision: the text model's tensors have a prefix, and its configuration is nested.
#[test]
fn the_text_of_a_model_with_eyes_is_a_model() {
    let text = json!({
        "model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "sliding_window": 16,
        "query_pre_attn_scalar": 8, "rope_scaling": { "factor": 8.0, "rope_type": "linear" }
    });
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text,
        "vision_config": { "hidden_size": 1152 }, "mm_tokens_per_image": 256, "boi_token_index": 255999
    });
    let mut list = llama();
    list.retain(|(name, ..)| name != "lm_head.weight");
    for layer in 0..2 {
        for (name, width) in [
            ("pre_feedforward_layernorm", 32),
            ("post_feedforward_layernorm", 32),
            ("self_attn.q_norm", 8),
            ("self_attn.k_norm", 8),
        ] {
            list.push(tensor(&format!("model.layers.{layer}.{name}.weight"), "BF16", &[width]));
        }
    }
    let plain = open(&text, &[file(&list)]);
    let renamed = |prefix: &str| {
        let name = |name: &str| format!("{prefix}{}", name.strip_prefix("model.").unwrap());
        let mut list: Vec<Tensor> =
            list.iter().map(|(found, dtype, shape)| (name(found), *dtype, shape.clone())).collect();
        list.push(tensor("vision_tower.embeddings.weight", "BF16", &[4, 4]));
        list.push(tensor("multi_modal_projector.mm_soft_emb_norm.weight", "BF16", &[4]));
        open(&config, &[file(&list)]).unwrap()
    };
    let of = |folder: &HuggingFaceFolder| {
        tensors(folder).into_iter().map(|(tensor, bytes)| (tensor.name, bytes)).collect::<Vec<_>>()
    };
    let plain = plain.unwrap();
    for prefix in ["language_model.model.", "model.language_model."] {
        let folder = renamed(prefix);
        assert!(of(&folder) == of(&plain), "{prefix}");
        let read = |folder: HuggingFaceFolder| ModelFile::read(folder).unwrap().config;
        assert_eq!(read(folder), read(open(&text, &[file(&list)]).unwrap()));
    }
}

proptest::proptest! {
    /// Changing any byte of the configuration or a header gives an error or a valid GGUF.
    #[test]
    fn any_byte_may_be_wrong(in_config: bool, at in 0usize..3000, byte: u8) {
        let (mut config, mut weights) = (mixtral_config().to_string().into_bytes(), file(&mixtral()));
        let changed = if in_config { &mut config } else { &mut weights };
        let at = at % changed.len();
        changed[at] = byte;
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("0.safetensors", weights));
        if let Ok(folder) = HuggingFaceFolder::from_files("folder", &config, None, vec![source]) {
            let source = folder.source();
            assert!(source.len() < 1 << 20);
            let gguf = Gguf::read(std::slice::from_ref(&source)).unwrap();
            for tensor in &gguf.tensors {
                assert_eq!(source.read(tensor.range.clone()).unwrap().len() as u64, tensor.bytes());
            }
            // The hyperparameters may contradict the tensors.
            let _ = ModelFile::read(folder);
        }
    }
}
