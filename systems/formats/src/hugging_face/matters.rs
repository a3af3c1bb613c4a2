//! Fields of `config.json` that change what some model computes and that are not visible in the names and shapes of its
//! tensors.
//!
//! If such a field is not read, the engine does not support the model, unless the field has a neutral value. Features
//! that are visible in the tensors need no entry here: an unknown tensor is refused by its name, and another shape by
//! the shape check. Sources: the configurations and models of `transformers`, and of the code that `auto_map` commonly
//! refers to.

use serde_json::Value;

/// Field names and their neutral values. Null, false and empty values are always neutral; 0 is neutral if no value is
/// listed.
const FIELDS: &[(&str, &[&str])] = &[
    // Attention.
    ("alibi", &[]),
    ("attention_chunk_size", &[]),
    ("attention_in_multiplier", &["1"]),
    ("attention_layers", &[]),
    ("attention_multiplier", &["1"]),
    ("attention_out_multiplier", &["1"]),
    ("attention_types", &[]),
    ("attn_logit_softcap", &[]),
    ("attn_logit_softcapping", &[]),
    ("attn_scale", &["1"]),
    ("attn_temperature_tuning", &[]),
    ("bidirectional", &[]),
    ("clip_qkv", &[]),
    ("global_attn_every_n_layers", &["1"]),
    ("key_multiplier", &["1"]),
    ("layer_types", &["full_attention"]),
    ("local_attention", &[]),
    ("num_kv_shared_layers", &[]),
    ("pruned_heads", &[]),
    ("qk_layernorm", &[]),
    ("qk_norm", &[]),
    ("qkv_clip", &[]),
    ("query_pre_attn_scalar", &[]),
    ("scale_attn_by_inverse_layer_idx", &[]),
    ("scale_attn_weights", &["true"]),
    ("use_alibi", &[]),
    ("use_attention_sinks", &[]),
    ("use_bidirectional_attention", &[]),
    ("use_logn_attn", &[]),
    ("use_qk_norm", &[]),
    ("use_sliding_window", &[]),
    // Positions.
    ("no_rope_layer_interval", &[]),
    ("no_rope_layers", &[]),
    ("partial_rotary_factor", &["1"]),
    ("position_embedding_type", &["absolute", "rope", "rotary"]),
    ("rope_parameters", &[]),
    ("rope_pct", &["1"]),
    ("rope_ratio", &["1"]),
    ("rope_scaling", &[]),
    ("rotary_emb_fraction", &["1"]),
    ("rotary_emb_interleaved", &[]),
    ("rotary_emb_scale_base", &[]),
    ("rotary_pct", &["1"]),
    // The residual and its norms.
    ("apply_residual_connection_post_layernorm", &[]),
    ("normalize_embeddings", &[]),
    ("parallel_attn", &[]),
    ("parallel_block", &[]),
    ("parallel_residual", &[]),
    ("residual_multiplier", &["1"]),
    ("scale_depth", &[]),
    ("use_parallel_residual", &[]),
    ("zero_centered_gamma", &[]),
    // Factors of embeddings and logits, and soft caps.
    ("dim_model_base", &[]),
    ("embed_scale", &["1"]),
    ("embedding_multiplier", &["1"]),
    ("embedding_scale", &["1"]),
    ("final_logit_softcap", &[]),
    ("final_logit_softcapping", &[]),
    ("lm_head_multiplier", &["1"]),
    ("logit_scale", &["1"]),
    ("logits_scaling", &["1"]),
    ("logits_soft_cap", &[]),
    ("mup_attn_multiplier", &["1"]),
    ("mup_embeddings_multiplier", &["1"]),
    ("mup_width_multiplier", &["1"]),
    ("mup_width_scale", &["1"]),
    ("output_multiplier", &["1"]),
    ("scale_emb", &["1"]),
    ("scale_embedding", &[]),
    ("scale_embeddings", &[]),
    // The feed-forward network and its experts.
    ("activation_limit", &[]),
    ("activation_sparsity_pattern", &[]),
    ("decoder_sparse_step", &["1"]),
    ("first_k_dense_replace", &[]),
    ("interleave_moe_layer_step", &["1"]),
    ("mlp_multipliers", &[]),
    ("mlp_only_layers", &[]),
    ("moe_every_n_layers", &[]),
    ("moe_layer_freq", &["0", "1"]),
    ("n_group", &["0", "1"]),
    ("routed_scaling_factor", &["1"]),
    ("scoring_func", &["softmax"]),
    ("swiglu_alpha", &[]),
    ("swiglu_limit", &[]),
    ("topk_group", &["0", "1"]),
    ("topk_method", &["greedy"]),
];

/// Returns true if a field changes what some model computes.
pub(super) fn matters(name: &str) -> bool {
    FIELDS.iter().any(|(field, _)| *field == name)
}

/// Returns true if a field with this value has the same effect as a missing field.
pub(super) fn changes_nothing(name: &str, value: &Value) -> bool {
    let neutral = FIELDS.iter().find(|(field, _)| *field == name).map_or(&[][..], |(_, neutral)| *neutral);
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => neutral.contains(&"true"),
        Value::Number(number) => {
            let number = number.as_f64();
            let nothing = number == Some(0.0) && neutral.is_empty();
            nothing || neutral.iter().any(|text| text.parse().ok() == number)
        }
        Value::String(text) => text.is_empty() || neutral.contains(&text.as_str()),
        Value::Array(values) => values.iter().all(|value| changes_nothing(name, value)),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_field_is_listed_once() {
        for (at, (field, _)) in FIELDS.iter().enumerate() {
            assert!(FIELDS.iter().skip(at + 1).all(|(other, _)| other != field), "{field}");
        }
    }

    #[test]
    fn values_that_change_nothing_are_known_by_the_field() {
        for (name, value) in [
            ("logit_scale", json!(1)),
            ("logit_scale", json!(1.0)),
            ("scoring_func", json!("softmax")),
            ("layer_types", json!([])),
            ("mlp_multipliers", json!([0, 0.0])),
            ("pruned_heads", json!({})),
            ("use_alibi", json!(false)),
            ("scale_attn_weights", json!(true)),
        ] {
            assert!(matters(name) && changes_nothing(name, &value), "{name} = {value}");
        }
        for (name, value) in [
            ("logit_scale", json!(0.5)),
            ("attention_multiplier", json!(0)),
            ("scoring_func", json!("sigmoid")),
            ("alibi", json!(true)),
            ("pruned_heads", json!({"0": [1]})),
            ("no_rope_layers", json!([1, 0])),
        ] {
            assert!(matters(name) && !changes_nothing(name, &value), "{name} = {value}");
        }
        assert!(!matters("max_length") && !matters("id2label") && !matters("task_specific_params"));
    }
}
