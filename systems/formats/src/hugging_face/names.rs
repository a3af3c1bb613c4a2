//! Tensor names of a Hugging Face model and of its GGUF.
//!
//! Each rule is a pair of patterns: `{}` stands for a layer and `{e}` for an expert. Sources: the modules of
//! `transformers` and the tensor table of the GGUF document.
//!
//! Names in a folder start with the names of the modules that contain the model: `model.` if it was saved with its
//! head, nothing if it was saved without, `language_model.` if it is the text model of a larger one. `transformers`
//! adds and removes such prefixes as needed, so patterns contain none and [`bare`] removes all of them.

/// A pair of patterns for a tensor's names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The name in the folder, without prefixes.
    from: &'static str,
    /// Names in the GGUF. There are two if each matrix contains the rows of two tensors, one half after the other. An
    /// expert's tensor is one matrix of a stack.
    to: &'static [&'static str],
}

const fn rule(from: &'static str, to: &'static [&'static str]) -> Rule {
    Rule { from, to }
}

/// The tensor of the GGUF that a tensor of a folder belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Its name in the GGUF; two names if each of its matrices contains the rows of two tensors, one half after the
    /// other.
    pub names: Vec<String>,
    /// The expert, if it is one matrix of a stack.
    pub expert: Option<usize>,
}

/// Names of modules that contain a model.
const PREFIXES: &[&str] = &["model.", "language_model.", "bert.", "roberta.", "distilbert."];

/// Parts besides the text model: the vision tower, and the projector that maps its output to the text model's width.
const OTHER_PARTS: &[&str] = &["vision_tower.", "multi_modal_projector."];

/// Heads for tasks other than text. They change neither hidden states nor logits.
const TASK_HEADS: &[&str] = &["pooler.", "score.", "classifier.", "qa_outputs.", "v_head."];

/// Heads of encoders, for masked tokens, next-sentence prediction and classification.
const ENCODER_HEADS: &[&str] =
    &["cls.", "lm_head.", "pre_classifier.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector."];

/// Name endings of buffers, which follow from the configuration and are not weights.
const BUFFERS: &[&str] = &["rotary_emb.inv_freq", "embeddings.position_ids", "embeddings.token_type_ids"];

const MODEL: &[Rule] = &[
    rule("embed_tokens.weight", &["token_embd.weight"]),
    rule("norm.weight", &["output_norm.weight"]),
    rule("lm_head.weight", &["output.weight"]),
];

const ATTENTION: &[Rule] = &[
    rule("layers.{}.self_attn.q_proj.weight", &["blk.{}.attn_q.weight"]),
    rule("layers.{}.self_attn.k_proj.weight", &["blk.{}.attn_k.weight"]),
    rule("layers.{}.self_attn.v_proj.weight", &["blk.{}.attn_v.weight"]),
    rule("layers.{}.self_attn.o_proj.weight", &["blk.{}.attn_output.weight"]),
    rule("layers.{}.self_attn.q_proj.bias", &["blk.{}.attn_q.bias"]),
    rule("layers.{}.self_attn.k_proj.bias", &["blk.{}.attn_k.bias"]),
    rule("layers.{}.self_attn.v_proj.bias", &["blk.{}.attn_v.bias"]),
    rule("layers.{}.self_attn.o_proj.bias", &["blk.{}.attn_output.bias"]),
];

const FUSED_ATTENTION: &[Rule] = &[
    rule("layers.{}.self_attn.qkv_proj.weight", &["blk.{}.attn_qkv.weight"]),
    rule("layers.{}.self_attn.o_proj.weight", &["blk.{}.attn_output.weight"]),
];

const QK_NORMS: &[Rule] = &[
    rule("layers.{}.self_attn.q_norm.weight", &["blk.{}.attn_q_norm.weight"]),
    rule("layers.{}.self_attn.k_norm.weight", &["blk.{}.attn_k_norm.weight"]),
];

const PRE_NORMS: &[Rule] = &[
    rule("layers.{}.input_layernorm.weight", &["blk.{}.attn_norm.weight"]),
    rule("layers.{}.post_attention_layernorm.weight", &["blk.{}.ffn_norm.weight"]),
];

/// Norms after attention and after the feed-forward network.
const POST_NORMS: &[Rule] = &[
    rule("layers.{}.post_attention_layernorm.weight", &["blk.{}.post_attention_norm.weight"]),
    rule("layers.{}.post_feedforward_layernorm.weight", &["blk.{}.post_ffw_norm.weight"]),
];

/// Norms before attention and feed-forward network, for models that also have [`POST_NORMS`].
const SANDWICH: &[Rule] = &[
    rule("layers.{}.input_layernorm.weight", &["blk.{}.attn_norm.weight"]),
    rule("layers.{}.pre_feedforward_layernorm.weight", &["blk.{}.ffn_norm.weight"]),
];

const FFN: &[Rule] = &[
    rule("layers.{}.mlp.gate_proj.weight", &["blk.{}.ffn_gate.weight"]),
    rule("layers.{}.mlp.up_proj.weight", &["blk.{}.ffn_up.weight"]),
    rule("layers.{}.mlp.down_proj.weight", &["blk.{}.ffn_down.weight"]),
];

const FFN_BIASES: &[Rule] = &[
    rule("layers.{}.mlp.gate_proj.bias", &["blk.{}.ffn_gate.bias"]),
    rule("layers.{}.mlp.up_proj.bias", &["blk.{}.ffn_up.bias"]),
    rule("layers.{}.mlp.down_proj.bias", &["blk.{}.ffn_down.bias"]),
];

const FUSED_FFN: &[Rule] = &[
    rule("layers.{}.mlp.gate_up_proj.weight", &["blk.{}.ffn_up.weight"]),
    rule("layers.{}.mlp.down_proj.weight", &["blk.{}.ffn_down.weight"]),
];

/// Mixtral's experts.
const BLOCK_EXPERTS: &[Rule] = &[
    rule("layers.{}.block_sparse_moe.gate.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule("layers.{}.block_sparse_moe.experts.{e}.w1.weight", &["blk.{}.ffn_gate_exps.weight"]),
    rule("layers.{}.block_sparse_moe.experts.{e}.w3.weight", &["blk.{}.ffn_up_exps.weight"]),
    rule("layers.{}.block_sparse_moe.experts.{e}.w2.weight", &["blk.{}.ffn_down_exps.weight"]),
];

/// Experts in a tensor each, or stacked with gate and up in one tensor.
const EXPERTS: &[Rule] = &[
    rule("layers.{}.mlp.gate.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule("layers.{}.mlp.experts.{e}.gate_proj.weight", &["blk.{}.ffn_gate_exps.weight"]),
    rule("layers.{}.mlp.experts.{e}.up_proj.weight", &["blk.{}.ffn_up_exps.weight"]),
    rule("layers.{}.mlp.experts.{e}.down_proj.weight", &["blk.{}.ffn_down_exps.weight"]),
    rule("layers.{}.mlp.experts.gate_up_proj", &["blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"]),
    rule("layers.{}.mlp.experts.down_proj", &["blk.{}.ffn_down_exps.weight"]),
];

const SHARED_EXPERT: &[Rule] = &[
    rule("layers.{}.mlp.shared_expert.gate_proj.weight", &["blk.{}.ffn_gate_shexp.weight"]),
    rule("layers.{}.mlp.shared_expert.up_proj.weight", &["blk.{}.ffn_up_shexp.weight"]),
    rule("layers.{}.mlp.shared_expert.down_proj.weight", &["blk.{}.ffn_down_shexp.weight"]),
    rule("layers.{}.mlp.shared_expert_gate.weight", &["blk.{}.ffn_gate_inp_shexp.weight"]),
];

/// Granite's stacked experts, and its shared expert that every row uses.
const GRANITE_EXPERTS: &[Rule] = &[
    rule("layers.{}.block_sparse_moe.router.layer.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule(
        "layers.{}.block_sparse_moe.input_linear.weight",
        &["blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"],
    ),
    rule("layers.{}.block_sparse_moe.output_linear.weight", &["blk.{}.ffn_down_exps.weight"]),
    rule(
        "layers.{}.shared_mlp.input_linear.weight",
        &["blk.{}.ffn_gate_shexp.weight", "blk.{}.ffn_up_shexp.weight"],
    ),
    rule("layers.{}.shared_mlp.output_linear.weight", &["blk.{}.ffn_down_shexp.weight"]),
];

/// BitNet's norms before output projections, under the names of `transformers` and those of the first models.
const SUB_NORMS: &[Rule] = &[
    rule("layers.{}.self_attn.attn_sub_norm.weight", &["blk.{}.attn_sub_norm.weight"]),
    rule("layers.{}.mlp.ffn_sub_norm.weight", &["blk.{}.ffn_sub_norm.weight"]),
    rule("layers.{}.self_attn.inner_attn_ln.weight", &["blk.{}.attn_sub_norm.weight"]),
    rule("layers.{}.mlp.ffn_layernorm.weight", &["blk.{}.ffn_sub_norm.weight"]),
];

/// Norms and tables of an encoder's embeddings.
const EMBEDDINGS: &[Rule] = &[
    rule("embeddings.word_embeddings.weight", &["token_embd.weight"]),
    rule("embeddings.position_embeddings.weight", &["position_embd.weight"]),
    rule("embeddings.token_type_embeddings.weight", &["token_types.weight"]),
    rule("embeddings.LayerNorm.weight", &["token_embd_norm.weight"]),
    rule("embeddings.LayerNorm.bias", &["token_embd_norm.bias"]),
];

/// The layers of BERT and RoBERTa.
const BERT: &[Rule] = &[
    rule("encoder.layer.{}.attention.self.query.weight", &["blk.{}.attn_q.weight"]),
    rule("encoder.layer.{}.attention.self.query.bias", &["blk.{}.attn_q.bias"]),
    rule("encoder.layer.{}.attention.self.key.weight", &["blk.{}.attn_k.weight"]),
    rule("encoder.layer.{}.attention.self.key.bias", &["blk.{}.attn_k.bias"]),
    rule("encoder.layer.{}.attention.self.value.weight", &["blk.{}.attn_v.weight"]),
    rule("encoder.layer.{}.attention.self.value.bias", &["blk.{}.attn_v.bias"]),
    rule("encoder.layer.{}.attention.output.dense.weight", &["blk.{}.attn_output.weight"]),
    rule("encoder.layer.{}.attention.output.dense.bias", &["blk.{}.attn_output.bias"]),
    rule("encoder.layer.{}.attention.output.LayerNorm.weight", &["blk.{}.attn_output_norm.weight"]),
    rule("encoder.layer.{}.attention.output.LayerNorm.bias", &["blk.{}.attn_output_norm.bias"]),
    rule("encoder.layer.{}.intermediate.dense.weight", &["blk.{}.ffn_up.weight"]),
    rule("encoder.layer.{}.intermediate.dense.bias", &["blk.{}.ffn_up.bias"]),
    rule("encoder.layer.{}.output.dense.weight", &["blk.{}.ffn_down.weight"]),
    rule("encoder.layer.{}.output.dense.bias", &["blk.{}.ffn_down.bias"]),
    rule("encoder.layer.{}.output.LayerNorm.weight", &["blk.{}.layer_output_norm.weight"]),
    rule("encoder.layer.{}.output.LayerNorm.bias", &["blk.{}.layer_output_norm.bias"]),
];

const DISTILBERT: &[Rule] = &[
    rule("transformer.layer.{}.attention.q_lin.weight", &["blk.{}.attn_q.weight"]),
    rule("transformer.layer.{}.attention.q_lin.bias", &["blk.{}.attn_q.bias"]),
    rule("transformer.layer.{}.attention.k_lin.weight", &["blk.{}.attn_k.weight"]),
    rule("transformer.layer.{}.attention.k_lin.bias", &["blk.{}.attn_k.bias"]),
    rule("transformer.layer.{}.attention.v_lin.weight", &["blk.{}.attn_v.weight"]),
    rule("transformer.layer.{}.attention.v_lin.bias", &["blk.{}.attn_v.bias"]),
    rule("transformer.layer.{}.attention.out_lin.weight", &["blk.{}.attn_output.weight"]),
    rule("transformer.layer.{}.attention.out_lin.bias", &["blk.{}.attn_output.bias"]),
    rule("transformer.layer.{}.sa_layer_norm.weight", &["blk.{}.attn_output_norm.weight"]),
    rule("transformer.layer.{}.sa_layer_norm.bias", &["blk.{}.attn_output_norm.bias"]),
    rule("transformer.layer.{}.ffn.lin1.weight", &["blk.{}.ffn_up.weight"]),
    rule("transformer.layer.{}.ffn.lin1.bias", &["blk.{}.ffn_up.bias"]),
    rule("transformer.layer.{}.ffn.lin2.weight", &["blk.{}.ffn_down.weight"]),
    rule("transformer.layer.{}.ffn.lin2.bias", &["blk.{}.ffn_down.bias"]),
    rule("transformer.layer.{}.output_layer_norm.weight", &["blk.{}.layer_output_norm.weight"]),
    rule("transformer.layer.{}.output_layer_norm.bias", &["blk.{}.layer_output_norm.bias"]),
];

/// Nomic Embed under its authors' names and under those of `transformers`.
const NOMIC_BERT: &[Rule] = &[
    rule("embeddings.word_embeddings.weight", &["token_embd.weight"]),
    rule("embeddings.token_type_embeddings.weight", &["token_types.weight"]),
    rule("emb_ln.weight", &["token_embd_norm.weight"]),
    rule("emb_ln.bias", &["token_embd_norm.bias"]),
    rule("embeddings.LayerNorm.weight", &["token_embd_norm.weight"]),
    rule("embeddings.LayerNorm.bias", &["token_embd_norm.bias"]),
    rule("encoder.layers.{}.attn.Wqkv.weight", &["blk.{}.attn_qkv.weight"]),
    rule("encoder.layers.{}.attn.out_proj.weight", &["blk.{}.attn_output.weight"]),
    rule("encoder.layers.{}.norm1.weight", &["blk.{}.attn_output_norm.weight"]),
    rule("encoder.layers.{}.norm1.bias", &["blk.{}.attn_output_norm.bias"]),
    rule("encoder.layers.{}.mlp.fc11.weight", &["blk.{}.ffn_up.weight"]),
    rule("encoder.layers.{}.mlp.fc12.weight", &["blk.{}.ffn_gate.weight"]),
    rule("encoder.layers.{}.mlp.fc2.weight", &["blk.{}.ffn_down.weight"]),
    rule("encoder.layers.{}.norm2.weight", &["blk.{}.layer_output_norm.weight"]),
    rule("encoder.layers.{}.norm2.bias", &["blk.{}.layer_output_norm.bias"]),
    rule("layers.{}.self_attn.q_proj.weight", &["blk.{}.attn_q.weight"]),
    rule("layers.{}.self_attn.k_proj.weight", &["blk.{}.attn_k.weight"]),
    rule("layers.{}.self_attn.v_proj.weight", &["blk.{}.attn_v.weight"]),
    rule("layers.{}.self_attn.o_proj.weight", &["blk.{}.attn_output.weight"]),
    rule("layers.{}.post_attention_layernorm.weight", &["blk.{}.attn_output_norm.weight"]),
    rule("layers.{}.post_attention_layernorm.bias", &["blk.{}.attn_output_norm.bias"]),
    rule("layers.{}.mlp.gate_proj.weight", &["blk.{}.ffn_gate.weight"]),
    rule("layers.{}.mlp.up_proj.weight", &["blk.{}.ffn_up.weight"]),
    rule("layers.{}.mlp.down_proj.weight", &["blk.{}.ffn_down.weight"]),
    rule("layers.{}.post_mlp_layernorm.weight", &["blk.{}.layer_output_norm.weight"]),
    rule("layers.{}.post_mlp_layernorm.bias", &["blk.{}.layer_output_norm.bias"]),
];

/// The rules for each architecture, by `general.architecture`.
const NAMES: &[(&str, &[&[Rule]])] = &[
    ("llama", &[MODEL, ATTENTION, PRE_NORMS, FFN, FFN_BIASES, BLOCK_EXPERTS, EXPERTS]),
    ("qwen2", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("qwen2moe", &[MODEL, ATTENTION, PRE_NORMS, EXPERTS, SHARED_EXPERT]),
    ("qwen3", &[MODEL, ATTENTION, QK_NORMS, PRE_NORMS, FFN]),
    ("qwen3moe", &[MODEL, ATTENTION, QK_NORMS, PRE_NORMS, EXPERTS]),
    ("phi3", &[MODEL, FUSED_ATTENTION, PRE_NORMS, FUSED_FFN]),
    ("gemma", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("gemma2", &[MODEL, ATTENTION, SANDWICH, POST_NORMS, FFN]),
    ("gemma3", &[MODEL, ATTENTION, QK_NORMS, SANDWICH, POST_NORMS, FFN]),
    ("smollm3", &[MODEL, ATTENTION, PRE_NORMS, FFN, FFN_BIASES]),
    ("granite", &[MODEL, ATTENTION, PRE_NORMS, FFN, FFN_BIASES]),
    ("granitemoe", &[MODEL, ATTENTION, PRE_NORMS, GRANITE_EXPERTS]),
    ("olmo2", &[MODEL, ATTENTION, QK_NORMS, POST_NORMS, FFN]),
    ("bitnet", &[MODEL, ATTENTION, PRE_NORMS, FFN, SUB_NORMS]),
    ("bitnet-b1.58", &[MODEL, ATTENTION, PRE_NORMS, FFN, SUB_NORMS]),
    ("bert", &[EMBEDDINGS, BERT, DISTILBERT]),
    ("nomic-bert", &[NOMIC_BERT]),
];

/// Returns the GGUF names of the tensor `name` of a Hugging Face model whose `general.architecture` is `architecture`;
/// `None` if it has no such tensor. The name is the one in the folder, such as
/// `model.layers.0.self_attn.q_proj.weight`, with or without prefixes.
pub fn gguf_names(architecture: &str, name: &str) -> Option<NamedTensor> {
    let (_, groups) = NAMES.iter().find(|(known, _)| *known == architecture)?;
    let bare = bare(name);
    // The first BERT models were converted from TensorFlow and have these names for norms.
    let norm = |old: &str, new: &str| bare.strip_suffix(old).map(|stem| format!("{stem}{new}"));
    let renamed =
        norm("LayerNorm.gamma", "LayerNorm.weight").or_else(|| norm("LayerNorm.beta", "LayerNorm.bias"));
    let name = renamed.as_deref().unwrap_or(bare);
    groups.iter().flat_map(|group| group.iter()).find_map(|rule| rule.apply(name))
}

/// Returns a tensor's name without the modules that contain the model.
fn bare(name: &str) -> &str {
    let inner = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    inner.map_or(name, bare)
}

/// Returns true if a tensor belongs to a part besides the text model. Such tensors do not change text output.
pub fn is_other_part(name: &str) -> bool {
    starts_with_any(bare(name), OTHER_PARTS)
}

/// Returns true if a tensor changes neither hidden states nor logits: it is the head of another task, or a buffer.
pub(super) fn is_idle(name: &str, causal: bool) -> bool {
    let bare = bare(name);
    let head = starts_with_any(bare, TASK_HEADS) || (!causal && starts_with_any(bare, ENCODER_HEADS));
    head || BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

fn starts_with_any(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

impl Rule {
    fn apply(&self, name: &str) -> Option<NamedTensor> {
        let (mut layer, mut expert) = (None, None);
        let mut found = name.split('.');
        for part in self.from.split('.') {
            let found = found.next()?;
            match part {
                "{}" => layer = Some(index(found)?),
                "{e}" => expert = Some(index(found)?),
                part if part == found => {}
                _ => return None,
            }
        }
        if found.next().is_some() {
            return None;
        }
        let layer = layer.map(|layer| layer.to_string()).unwrap_or_default();
        Some(NamedTensor { names: self.to.iter().map(|to| to.replace("{}", &layer)).collect(), expert })
    }
}

/// Parses an index: decimal, without leading zeros, at most six digits.
fn index(text: &str) -> Option<usize> {
    const DIGITS: usize = 6;
    let canonical = text.len() <= DIGITS && (text == "0" || !text.starts_with('0'));
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::ARCHITECTURES;

    #[test]
    fn names_are_those_of_the_architecture() {
        let name = |architecture: &str, name: &str| {
            gguf_names(architecture, name).map(|named| (named.names.join(" "), named.expert))
        };
        let some = |name: &str, expert| Some((name.to_owned(), expert));
        assert_eq!(name("llama", "lm_head.weight"), some("output.weight", None));
        let norm = "model.layers.12.post_attention_layernorm.weight";
        assert_eq!(name("llama", norm), some("blk.12.ffn_norm.weight", None));
        assert_eq!(name("gemma2", norm), some("blk.12.post_attention_norm.weight", None));
        let w2 = "model.layers.0.block_sparse_moe.experts.7.w2.weight";
        assert_eq!(name("llama", w2), some("blk.0.ffn_down_exps.weight", Some(7)));
        let fused = "model.layers.3.mlp.experts.gate_up_proj";
        let both = "blk.3.ffn_gate_exps.weight blk.3.ffn_up_exps.weight";
        assert_eq!(name("qwen3moe", fused), some(both, None));
        for wrong in ["model.layers.01.mlp.up_proj.weight", "model.layers.-1.mlp.up_proj.weight"] {
            assert_eq!(name("llama", wrong), None);
        }
        for wrong in ["model.layers.0.mlp.up_proj.weight.more", "model.layers.0.mlp", "", "model.layers..mlp"]
        {
            assert_eq!(name("llama", wrong), None);
        }
        assert_eq!(name("abacus", "lm_head.weight"), None);
    }

    #[test]
    fn prefixes_make_no_difference() {
        let whole = gguf_names("gemma3", "model.layers.1.mlp.up_proj.weight");
        assert!(whole.is_some());
        for prefix in ["", "language_model.", "model.language_model.", "language_model.model."] {
            let name = format!("{prefix}layers.1.mlp.up_proj.weight");
            assert_eq!(gguf_names("gemma3", &name), whole, "{name}");
        }
        let of = |name: &str| gguf_names("bert", name).map(|named| named.names.join(" "));
        let norm = Some("blk.0.layer_output_norm.weight".to_owned());
        for name in ["encoder.layer.0.output.LayerNorm.weight", "bert.encoder.layer.0.output.LayerNorm.gamma"]
        {
            assert_eq!(of(name), norm);
        }
        assert_eq!(of("distilbert.transformer.layer.0.output_layer_norm.weight"), norm);
        assert_eq!(of("distilbert.transformer.layer.0.output_layer_norm.gamma"), None);
    }

    #[test]
    fn heads_of_other_tasks_are_idle() {
        for name in ["score.weight", "model.score.weight", "v_head.summary.bias", "bert.pooler.dense.weight"]
        {
            assert!(is_idle(name, true) && is_idle(name, false), "{name}");
        }
        for name in ["lm_head.dense.weight", "cls.predictions.bias", "vocab_projector.bias"] {
            assert!(is_idle(name, false) && !is_idle(name, true), "{name}");
        }
        assert!(is_idle("model.layers.0.self_attn.rotary_emb.inv_freq", true));
        assert!(!is_idle("model.embed_tokens.weight", true) && !is_idle("embeddings.LayerNorm.bias", false));
        assert!(is_other_part("model.vision_tower.encoder.layers.0.mlp.fc1.weight"));
        assert!(!is_other_part("language_model.model.layers.0.mlp.up_proj.weight"));
    }

    #[test]
    fn every_name_is_one_that_the_architecture_reads() {
        for architecture in ARCHITECTURES {
            let (_, groups) = NAMES.iter().find(|(name, _)| *name == architecture.name).unwrap();
            let read: Vec<_> = architecture
                .before
                .iter()
                .chain(architecture.after)
                .map(|pattern| pattern.name)
                .chain(architecture.layer_patterns().map(|pattern| pattern.name))
                .collect();
            for rule in groups.iter().flat_map(|group| group.iter()) {
                // A tied head is not read.
                let known = |to: &&str| read.contains(to) || *to == "output.weight";
                // Not all architectures support a bias of `o_proj`. It is refused when a model has it.
                let bias = rule.from.ends_with(".bias");
                assert!(bias || rule.to.iter().all(known), "{}: {rule:?}", architecture.name);
            }
        }
    }
}
