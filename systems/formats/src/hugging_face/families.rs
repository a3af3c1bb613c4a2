//! Model families that folders contain: the GGUF architecture of each, and how its conversion differs.

use super::HuggingFaceError;
use super::config::Config;
use super::keys::{Keys, cap, query_scale};
use crate::architecture::{ARCHITECTURES, Architecture};
use serde_json::{Value, json};

/// A model family, identified by `model_type` in its configuration.
pub(super) struct Family {
    pub(super) model_type: &'static str,
    /// Fields with family-specific names: the family's name and the common name.
    names: &'static [(&'static str, &'static str)],
    /// `general.architecture` of its GGUF.
    architecture: &'static str,
    /// Values of the activation field that match the architecture, as `transformers` names them.
    pub(super) activations: &'static [&'static str],
    /// Default base of the rotary frequencies.
    pub(super) theta: f64,
    /// Defaults of other fields, as in `transformers`.
    pub(super) defaults: &'static [(&'static str, f64)],
    /// Default of `tie_word_embeddings`. `None` means that the embedding is the head if the folder has no head tensor.
    pub(super) tied: Option<bool>,
    /// True if position embeddings start after the padding position: the first token uses row `pad_token_id` + 1.
    pub(super) positions_after_padding: bool,
    /// True if rotary embedding may apply to only part of a head.
    pub(super) turns_partly: bool,
    /// True if norms multiply by 1 + weight.
    pub(super) norms_add_one: bool,
    /// True if the matrices of layers are rounded to -1, 0 and 1 times a scale.
    pub(super) ternary: bool,
    /// Default of `norm_topk_prob`: true if the weights of selected experts are divided by their sum.
    pub(super) normalises: bool,
    /// Reads the fields that only this family has.
    pub(super) more: fn(&Config, &Architecture, &mut Keys) -> Result<(), HuggingFaceError>,
}

const SILU: &[&str] = &["silu", "swish"];
/// Early configurations say `gelu` for its tanh approximation.
const GELU: &[&str] = &["gelu_pytorch_tanh", "gelu"];

/// A family with no special features.
const PLAIN: Family = Family {
    model_type: "",
    names: &[],
    architecture: "",
    activations: SILU,
    theta: 10_000.0,
    defaults: &[],
    tied: None,
    positions_after_padding: false,
    turns_partly: false,
    norms_add_one: false,
    ternary: false,
    normalises: false,
    more: |_, _, _| Ok(()),
};

const GEMMA: Family = Family {
    activations: GELU,
    defaults: &[("head_dim", 256.0)],
    tied: Some(true),
    norms_add_one: true,
    more: gemma,
    ..PLAIN
};

const GEMMA3: Family = Family {
    architecture: "gemma3",
    theta: 1_000_000.0,
    defaults: &[
        ("hidden_size", 2304.0),
        ("intermediate_size", 9216.0),
        ("num_hidden_layers", 26.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("vocab_size", 262_208.0),
        ("max_position_embeddings", 131_072.0),
        ("rms_norm_eps", 1e-6),
        ("sliding_window", 4096.0),
        ("query_pre_attn_scalar", 256.0),
        ("rope_local_base_freq", 10_000.0),
    ],
    more: gemma3,
    ..GEMMA
};

const GRANITE: Family = Family { normalises: true, more: granite, ..PLAIN };

const BITNET: Family = Family { theta: 500_000.0, ternary: true, ..PLAIN };

/// Exact GELU, used by encoders. The tanh approximation would change their outputs.
const GELU_ERF: &[&str] = &["gelu"];

const BERT: Family = Family {
    architecture: "bert",
    activations: GELU_ERF,
    defaults: &[("layer_norm_eps", 1e-12)],
    more: bert,
    ..PLAIN
};

const ROBERTA: Family = Family {
    defaults: &[("layer_norm_eps", 1e-12), ("pad_token_id", 1.0)],
    positions_after_padding: true,
    ..BERT
};

const DISTILBERT: Family = Family {
    names: &[
        ("dim", "hidden_size"),
        ("hidden_dim", "intermediate_size"),
        ("n_heads", "num_attention_heads"),
        ("n_layers", "num_hidden_layers"),
        ("activation", "hidden_act"),
    ],
    ..BERT
};

/// Includes the field names of the authors' own code, many of which come from GPT-2.
const NOMIC_BERT: Family = Family {
    architecture: "nomic-bert",
    names: &[
        ("n_embd", "hidden_size"),
        ("n_inner", "intermediate_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
        ("layer_norm_epsilon", "layer_norm_eps"),
        ("activation_function", "hidden_act"),
        ("rotary_emb_base", "rope_theta"),
        ("rotary_emb_fraction", "partial_rotary_factor"),
    ],
    activations: &["silu", "swiglu"],
    theta: 1000.0,
    defaults: &[("layer_norm_eps", 1e-12)],
    more: nomic_bert,
    ..PLAIN
};

/// Families that are not supported yet.
const LATER: &[&str] = &["modernbert"];

/// All supported families. The two BitNet families differ in their activation.
const FAMILIES: &[Family] = &[
    Family { model_type: "llama", architecture: "llama", ..PLAIN },
    Family { model_type: "mistral", architecture: "llama", defaults: &[("sliding_window", 4096.0)], ..PLAIN },
    Family { model_type: "mixtral", architecture: "llama", theta: 1_000_000.0, normalises: true, ..PLAIN },
    Family { model_type: "qwen2", architecture: "qwen2", ..PLAIN },
    Family { model_type: "qwen2_moe", architecture: "qwen2moe", ..PLAIN },
    Family { model_type: "qwen3", architecture: "qwen3", defaults: &[("head_dim", 128.0)], ..PLAIN },
    Family { model_type: "qwen3_moe", architecture: "qwen3moe", ..PLAIN },
    Family { model_type: "phi3", architecture: "phi3", turns_partly: true, more: phi3, ..PLAIN },
    Family { model_type: "gemma", architecture: "gemma", ..GEMMA },
    Family {
        model_type: "gemma2",
        architecture: "gemma2",
        defaults: &[("head_dim", 256.0), ("sliding_window", 4096.0), ("query_pre_attn_scalar", 256.0)],
        ..GEMMA
    },
    Family { model_type: "gemma3_text", ..GEMMA3 },
    Family { model_type: "gemma3", ..GEMMA3 },
    Family {
        model_type: "smollm3",
        architecture: "smollm3",
        theta: 2_000_000.0,
        tied: Some(true),
        more: smollm3,
        ..PLAIN
    },
    Family { model_type: "granite", architecture: "granite", ..GRANITE },
    Family { model_type: "granitemoe", architecture: "granitemoe", ..GRANITE },
    Family { model_type: "granitemoeshared", architecture: "granitemoe", ..GRANITE },
    Family { model_type: "olmo2", architecture: "olmo2", more: olmo2, ..PLAIN },
    Family { model_type: "bitnet", architecture: "bitnet", ..BITNET },
    Family { model_type: "bitnet", architecture: "bitnet-b1.58", activations: &["relu2"], ..BITNET },
    Family { model_type: "bert", ..BERT },
    Family { model_type: "distilbert", ..DISTILBERT },
    Family { model_type: "roberta", ..ROBERTA },
    Family { model_type: "xlm-roberta", ..ROBERTA },
    Family { model_type: "nomic_bert", ..NOMIC_BERT },
];

/// Finds the family and the architecture of a configuration, and applies the family's names and defaults.
///
/// # Errors
/// A missing `model_type`, or one that is not supported.
pub(super) fn find(
    config: &mut Config,
) -> Result<(&'static Family, &'static Architecture), HuggingFaceError> {
    let stated = config.opt_text("model_type")?.ok_or_else(|| config.missing("model_type"))?;
    let model_type = stated.to_owned();
    let of_type = || FAMILIES.iter().filter(|family| family.model_type == model_type);
    if let Some(first) = of_type().next() {
        config.rename(first.names);
    }
    let activation = config.opt_text("hidden_act")?;
    // If no family has this activation, the first one is taken and reading its fields reports the error.
    let fits = |family: &&Family| activation.is_none_or(|name| family.activations.contains(&name));
    let family = of_type().find(fits).or_else(|| of_type().next());
    let arch = family.and_then(|family| ARCHITECTURES.iter().find(|arch| arch.name == family.architecture));
    let (Some(family), Some(arch)) = (family, arch) else {
        let file = config.file.clone();
        if LATER.contains(&model_type.as_str()) {
            return Err(HuggingFaceError::LaterModel { file, model_type });
        }
        let mut known: Vec<_> = FAMILIES.iter().map(|family| family.model_type).collect();
        known.dedup();
        return Err(HuggingFaceError::UnknownModel { file, model_type, known: known.join(", ") });
    };
    for (field, value) in family.defaults {
        config.default(field, *value);
    }
    Ok((family, arch))
}

fn phi3(config: &Config, _: &Architecture, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    // Phi 4 mini states the default values.
    for field in ["full_attn_mod", "interpolate_factor"] {
        config.only(field, &[json!(1)])?;
    }
    // Without the key, other readers apply a default window.
    if config.opt_count("sliding_window")?.is_none() {
        keys.count("attention.sliding_window", 0);
    }
    Ok(())
}

fn gemma(config: &Config, arch: &Architecture, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    config.only("use_bidirectional_attention", &[json!(false)])?;
    for field in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if arch.knows_key(field) {
            cap(config, field, keys)?;
        }
    }
    query_scale(config, arch, keys)
}

fn gemma3(config: &Config, arch: &Architecture, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    config.only("attn_logit_softcapping", &[])?;
    gemma(config, arch, keys)
}

fn smollm3(config: &Config, _: &Architecture, _: &mut Keys) -> Result<(), HuggingFaceError> {
    const EVERY: usize = 4;
    config.only("no_rope_layer_interval", &[json!(EVERY)])?;
    let turns = config.opt_list("no_rope_layers")?.unwrap_or_default();
    // The field contains 1 for a layer with rotary embedding.
    let usual =
        |(layer, turns): (usize, &Value)| *turns == json!(u8::from(!(layer + 1).is_multiple_of(EVERY)));
    if turns.iter().enumerate().all(usual) {
        return Ok(());
    }
    let found = json!(turns);
    Err(config.bad("no_rope_layers", &found, "0 for every fourth layer and 1 for the others"))
}

fn granite(config: &Config, _: &Architecture, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    for (field, key) in [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ] {
        keys.float(key, config.opt_float(field)?.unwrap_or(1.0));
    }
    Ok(())
}

fn olmo2(config: &Config, _: &Architecture, _: &mut Keys) -> Result<(), HuggingFaceError> {
    config.only("clip_qkv", &[])
}

fn bert(config: &Config, _: &Architecture, _: &mut Keys) -> Result<(), HuggingFaceError> {
    // If true, attention would be causal.
    config.only("is_decoder", &[json!(false)])?;
    config.only("position_embedding_type", &[json!("absolute")])
}

fn nomic_bert(config: &Config, _: &Architecture, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    /// Training context of the models whose rotary embedding is scaled beyond it.
    const TRAINED: u64 = 2048;
    for field in ["prenorm", "use_rms_norm", "causal", "rotary_emb_interleaved"] {
        config.only(field, &[json!(false)])?;
    }
    // Like `rope_scaling` of type dynamic: frequencies do not change up to the training context, and the context is
    // limited to it.
    if config.opt_float("rotary_scaling_factor")?.is_some() {
        let trained = config.opt_count("max_trained_positions")?.unwrap_or(TRAINED);
        keys.bound_context(trained);
    }
    Ok(())
}
