//! What tensors are called: names of a Hugging Face model and those of its GGUF.
//!
//! A name of the one side is a pattern of the other: `{}` stands for a layer and `{e}` for an expert. Sources: the modules of
//! `transformers` and the tensor table of the GGUF document.

/// A tensor's name on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The name in the folder.
    from: &'static str,
    /// Names in the GGUF: one, or two where the rows of each matrix are two tensors, one half after the other. An expert's
    /// tensor is one matrix of a stack.
    to: &'static [&'static str],
}

const fn rule(from: &'static str, to: &'static [&'static str]) -> Rule {
    Rule { from, to }
}

/// What a tensor of a folder is in the GGUF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Its name there; two where the rows of each of its matrices are halves of two tensors.
    pub names: Vec<String>,
    /// The expert whose matrix of a stack it is.
    pub expert: Option<usize>,
}

const MODEL: &[Rule] = &[
    rule("model.embed_tokens.weight", &["token_embd.weight"]),
    rule("model.norm.weight", &["output_norm.weight"]),
    rule("lm_head.weight", &["output.weight"]),
];

const ATTENTION: &[Rule] = &[
    rule("model.layers.{}.self_attn.q_proj.weight", &["blk.{}.attn_q.weight"]),
    rule("model.layers.{}.self_attn.k_proj.weight", &["blk.{}.attn_k.weight"]),
    rule("model.layers.{}.self_attn.v_proj.weight", &["blk.{}.attn_v.weight"]),
    rule("model.layers.{}.self_attn.o_proj.weight", &["blk.{}.attn_output.weight"]),
    rule("model.layers.{}.self_attn.q_proj.bias", &["blk.{}.attn_q.bias"]),
    rule("model.layers.{}.self_attn.k_proj.bias", &["blk.{}.attn_k.bias"]),
    rule("model.layers.{}.self_attn.v_proj.bias", &["blk.{}.attn_v.bias"]),
    rule("model.layers.{}.self_attn.o_proj.bias", &["blk.{}.attn_output.bias"]),
];

const FUSED_ATTENTION: &[Rule] = &[
    rule("model.layers.{}.self_attn.qkv_proj.weight", &["blk.{}.attn_qkv.weight"]),
    rule("model.layers.{}.self_attn.o_proj.weight", &["blk.{}.attn_output.weight"]),
];

const QK_NORMS: &[Rule] = &[
    rule("model.layers.{}.self_attn.q_norm.weight", &["blk.{}.attn_q_norm.weight"]),
    rule("model.layers.{}.self_attn.k_norm.weight", &["blk.{}.attn_k_norm.weight"]),
];

const PRE_NORMS: &[Rule] = &[
    rule("model.layers.{}.input_layernorm.weight", &["blk.{}.attn_norm.weight"]),
    rule("model.layers.{}.post_attention_layernorm.weight", &["blk.{}.ffn_norm.weight"]),
];

/// Norms after attention and after the feed-forward network.
const POST_NORMS: &[Rule] = &[
    rule("model.layers.{}.post_attention_layernorm.weight", &["blk.{}.post_attention_norm.weight"]),
    rule("model.layers.{}.post_feedforward_layernorm.weight", &["blk.{}.post_ffw_norm.weight"]),
];

/// Norms before both, beside [`POST_NORMS`].
const SANDWICH: &[Rule] = &[
    rule("model.layers.{}.input_layernorm.weight", &["blk.{}.attn_norm.weight"]),
    rule("model.layers.{}.pre_feedforward_layernorm.weight", &["blk.{}.ffn_norm.weight"]),
];

const FFN: &[Rule] = &[
    rule("model.layers.{}.mlp.gate_proj.weight", &["blk.{}.ffn_gate.weight"]),
    rule("model.layers.{}.mlp.up_proj.weight", &["blk.{}.ffn_up.weight"]),
    rule("model.layers.{}.mlp.down_proj.weight", &["blk.{}.ffn_down.weight"]),
];

const FUSED_FFN: &[Rule] = &[
    rule("model.layers.{}.mlp.gate_up_proj.weight", &["blk.{}.ffn_up.weight"]),
    rule("model.layers.{}.mlp.down_proj.weight", &["blk.{}.ffn_down.weight"]),
];

/// Mixtral's experts.
const BLOCK_EXPERTS: &[Rule] = &[
    rule("model.layers.{}.block_sparse_moe.gate.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule("model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", &["blk.{}.ffn_gate_exps.weight"]),
    rule("model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", &["blk.{}.ffn_up_exps.weight"]),
    rule("model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", &["blk.{}.ffn_down_exps.weight"]),
];

/// Experts one by one, or stacked with gate and up in one.
const EXPERTS: &[Rule] = &[
    rule("model.layers.{}.mlp.gate.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule("model.layers.{}.mlp.experts.{e}.gate_proj.weight", &["blk.{}.ffn_gate_exps.weight"]),
    rule("model.layers.{}.mlp.experts.{e}.up_proj.weight", &["blk.{}.ffn_up_exps.weight"]),
    rule("model.layers.{}.mlp.experts.{e}.down_proj.weight", &["blk.{}.ffn_down_exps.weight"]),
    rule(
        "model.layers.{}.mlp.experts.gate_up_proj",
        &["blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"],
    ),
    rule("model.layers.{}.mlp.experts.down_proj", &["blk.{}.ffn_down_exps.weight"]),
];

const SHARED_EXPERT: &[Rule] = &[
    rule("model.layers.{}.mlp.shared_expert.gate_proj.weight", &["blk.{}.ffn_gate_shexp.weight"]),
    rule("model.layers.{}.mlp.shared_expert.up_proj.weight", &["blk.{}.ffn_up_shexp.weight"]),
    rule("model.layers.{}.mlp.shared_expert.down_proj.weight", &["blk.{}.ffn_down_shexp.weight"]),
    rule("model.layers.{}.mlp.shared_expert_gate.weight", &["blk.{}.ffn_gate_inp_shexp.weight"]),
];

/// Granite's experts, stacked, and the one that every row uses.
const GRANITE_EXPERTS: &[Rule] = &[
    rule("model.layers.{}.block_sparse_moe.router.layer.weight", &["blk.{}.ffn_gate_inp.weight"]),
    rule(
        "model.layers.{}.block_sparse_moe.input_linear.weight",
        &["blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"],
    ),
    rule("model.layers.{}.block_sparse_moe.output_linear.weight", &["blk.{}.ffn_down_exps.weight"]),
    rule(
        "model.layers.{}.shared_mlp.input_linear.weight",
        &["blk.{}.ffn_gate_shexp.weight", "blk.{}.ffn_up_shexp.weight"],
    ),
    rule("model.layers.{}.shared_mlp.output_linear.weight", &["blk.{}.ffn_down_shexp.weight"]),
];

/// BitNet's norms before output projections, under the names of `transformers` and those of the first models.
const SUB_NORMS: &[Rule] = &[
    rule("model.layers.{}.self_attn.attn_sub_norm.weight", &["blk.{}.attn_sub_norm.weight"]),
    rule("model.layers.{}.mlp.ffn_sub_norm.weight", &["blk.{}.ffn_sub_norm.weight"]),
    rule("model.layers.{}.self_attn.inner_attn_ln.weight", &["blk.{}.attn_sub_norm.weight"]),
    rule("model.layers.{}.mlp.ffn_layernorm.weight", &["blk.{}.ffn_sub_norm.weight"]),
];

/// Which names each architecture's folders have, by `general.architecture`.
const NAMES: &[(&str, &[&[Rule]])] = &[
    ("llama", &[MODEL, ATTENTION, PRE_NORMS, FFN, BLOCK_EXPERTS, EXPERTS]),
    ("qwen2", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("qwen2moe", &[MODEL, ATTENTION, PRE_NORMS, EXPERTS, SHARED_EXPERT]),
    ("qwen3", &[MODEL, ATTENTION, QK_NORMS, PRE_NORMS, FFN]),
    ("qwen3moe", &[MODEL, ATTENTION, QK_NORMS, PRE_NORMS, EXPERTS]),
    ("phi3", &[MODEL, FUSED_ATTENTION, PRE_NORMS, FUSED_FFN]),
    ("gemma", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("gemma2", &[MODEL, ATTENTION, SANDWICH, POST_NORMS, FFN]),
    ("gemma3", &[MODEL, ATTENTION, QK_NORMS, SANDWICH, POST_NORMS, FFN]),
    ("smollm3", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("granite", &[MODEL, ATTENTION, PRE_NORMS, FFN]),
    ("granitemoe", &[MODEL, ATTENTION, PRE_NORMS, GRANITE_EXPERTS]),
    ("olmo2", &[MODEL, ATTENTION, QK_NORMS, POST_NORMS, FFN]),
    ("bitnet", &[MODEL, ATTENTION, PRE_NORMS, FFN, SUB_NORMS]),
    ("bitnet-b1.58", &[MODEL, ATTENTION, PRE_NORMS, FFN, SUB_NORMS]),
];

/// What the tensor `name` of a Hugging Face model is called in a GGUF whose `general.architecture` is `architecture`; `None`
/// where it has no such tensor. The name is the one in the folder, such as `model.layers.0.self_attn.q_proj.weight`.
pub fn gguf_names(architecture: &str, name: &str) -> Option<NamedTensor> {
    let (_, groups) = NAMES.iter().find(|(known, _)| *known == architecture)?;
    groups.iter().flat_map(|group| group.iter()).find_map(|rule| rule.apply(name))
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

/// A number as names have it: decimal, without zeros before it, and believable.
fn index(text: &str) -> Option<usize> {
    const DIGITS: usize = 6;
    let canonical = text.len() <= DIGITS && (text == "0" || !text.starts_with('0'));
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::architecture::ARCHITECTURES;

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
    fn every_name_is_one_that_the_architecture_reads() {
        // Folders of encoders are not read.
        for architecture in ARCHITECTURES.iter().filter(|architecture| architecture.causal) {
            let (_, groups) = NAMES.iter().find(|(name, _)| *name == architecture.name).unwrap();
            let read: Vec<_> = architecture
                .before
                .iter()
                .chain(architecture.after)
                .map(|pattern| pattern.name)
                .chain(architecture.layer_patterns().map(|pattern| pattern.name))
                .collect();
            for rule in groups.iter().flat_map(|group| group.iter()) {
                // A head that the embedding serves as is not read.
                let known = |to: &&str| read.contains(to) || *to == "output.weight";
                // Biases of o_proj are none that all architectures can have; they are refused where they are found.
                let bias = rule.from.ends_with(".bias");
                assert!(bias || rule.to.iter().all(known), "{}: {rule:?}", architecture.name);
            }
        }
    }
}
