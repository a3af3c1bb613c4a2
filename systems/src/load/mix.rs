//! Mixes: which format each tensor of a file takes. What users call Q4_K_M is not one format: the tensors that suffer most are
//! stored in more bits. The rules are those of llama.cpp's quantizer without an importance matrix, for dense models below 70B with
//! separate projections.

use weft_components::{TensorFormat, TensorRole as Role};

/// A tensor that is given a format.
#[derive(Clone, Copy, Debug)]
pub struct MixedTensor {
    /// What it is for.
    pub role: Role,
    /// Its layer, 0 for the model's own.
    pub layer: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Query heads a KV head.
    pub group: usize,
    /// Whether the embedding also serves as the head.
    pub tied: bool,
    /// Elements of a row.
    pub cols: usize,
}

impl MixedTensor {
    /// The first and the last eighth of the layers, and each third one between.
    fn wants_more_bits(&self) -> bool {
        let (layer, eighth) = (self.layer, self.layers / 8);
        layer < eighth || layer >= 7 * self.layers / 8 || (layer - eighth) % 3 == 2
    }
}

/// The name of a format, where a rule applies to a tensor.
type Rule = fn(&MixedTensor) -> Option<&'static str>;

/// A row of [`MIXES`].
struct MixRules {
    name: &'static str,
    /// The format of what no rule is for.
    base: &'static str,
    value: Rule,
    attention_output: Rule,
    down: Rule,
}

const NONE: Rule = |_| None;
const MORE_Q6_K: Rule = |tensor| tensor.wants_more_bits().then_some("Q6_K");

/// Every mix of several formats.
static MIXES: [MixRules; 9] = [
    MixRules {
        name: "Q2_K",
        base: "Q2_K",
        value: |tensor| Some(if tensor.group >= 4 { "Q4_K" } else { "Q3_K" }),
        attention_output: |_| Some("Q3_K"),
        down: |_| Some("Q3_K"),
    },
    MixRules { name: "Q3_K_S", base: "Q3_K", value: NONE, attention_output: NONE, down: NONE },
    MixRules {
        name: "Q3_K_M",
        base: "Q3_K",
        value: |tensor| Some(if tensor.layer < 2 { "Q5_K" } else { "Q4_K" }),
        attention_output: |_| Some("Q4_K"),
        down: |tensor| Some(if tensor.layer < tensor.layers / 16 { "Q5_K" } else { "Q4_K" }),
    },
    MixRules {
        name: "Q3_K_L",
        base: "Q3_K",
        value: |_| Some("Q5_K"),
        attention_output: |_| Some("Q5_K"),
        down: |_| Some("Q5_K"),
    },
    MixRules {
        name: "Q4_K_S",
        base: "Q4_K",
        value: |tensor| (tensor.layer < 4).then_some("Q5_K"),
        attention_output: NONE,
        down: |tensor| (tensor.layer < tensor.layers / 8).then_some("Q5_K"),
    },
    MixRules { name: "Q4_K_M", base: "Q4_K", value: MORE_Q6_K, attention_output: NONE, down: MORE_Q6_K },
    MixRules { name: "Q5_K_S", base: "Q5_K", value: NONE, attention_output: NONE, down: NONE },
    MixRules { name: "Q5_K_M", base: "Q5_K", value: MORE_Q6_K, attention_output: NONE, down: MORE_Q6_K },
    MixRules { name: "Q6_K", base: "Q6_K", value: NONE, attention_output: NONE, down: NONE },
];

/// What is taken where a row is no whole number of blocks of a format.
const SMALLER_BLOCKS: [(&str, &str); 15] = [
    ("Q2_K", "IQ4_NL"),
    ("Q3_K", "IQ4_NL"),
    ("Q4_K", "Q5_0"),
    ("Q5_K", "Q5_1"),
    ("Q6_K", "Q8_0"),
    ("IQ1_S", "IQ4_NL"),
    ("IQ1_M", "IQ4_NL"),
    ("IQ2_XXS", "IQ4_NL"),
    ("IQ2_XS", "IQ4_NL"),
    ("IQ2_S", "IQ4_NL"),
    ("IQ3_XXS", "IQ4_NL"),
    ("IQ3_S", "IQ4_NL"),
    ("IQ4_XS", "IQ4_NL"),
    ("TQ1_0", "Q4_0"),
    ("TQ2_0", "Q4_0"),
];

/// Which format each tensor takes: one for all, or a mix.
#[derive(Clone, Copy)]
pub struct Mix {
    base: TensorFormat,
    rules: Option<&'static MixRules>,
}

impl Mix {
    /// The mix or the format of this name, in any case. A name that is both, such as `Q2_K`, is the mix.
    pub fn from_name(name: &str) -> Option<Self> {
        let rules = MIXES.iter().find(|mix| mix.name.eq_ignore_ascii_case(name));
        let base = TensorFormat::from_name(rules.map_or(name, |rules| rules.base))?;
        Some(Self { base, rules })
    }

    /// One format for all.
    pub fn uniform(format: TensorFormat) -> Self {
        Self { base: format, rules: None }
    }

    /// Names of the mixes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MIXES.iter().map(|mix| mix.name)
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.rules.map_or(self.base.name(), |rules| rules.name)
    }

    /// The format of what no rule is for.
    pub fn base(&self) -> TensorFormat {
        self.base
    }

    /// The format of a matrix: by the rules, and in smaller blocks where its rows ask for it.
    pub fn format(&self, tensor: &MixedTensor) -> TensorFormat {
        let wanted = self.rules.and_then(|rules| match tensor.role {
            Role::Output => Some("Q6_K"),
            Role::TokenEmbedding if tensor.tied => Some("Q6_K"),
            Role::Value => (rules.value)(tensor),
            Role::AttentionOutput => (rules.attention_output)(tensor),
            Role::FfnDown | Role::ExpertDown | Role::SharedDown => (rules.down)(tensor),
            _ => None,
        });
        let format = wanted.and_then(TensorFormat::from_name).unwrap_or(self.base);
        if tensor.cols.is_multiple_of(format.block()) {
            return format;
        }
        let smaller = SMALLER_BLOCKS.iter().find(|(name, _)| *name == format.name());
        let smaller = smaller.and_then(|(_, name)| TensorFormat::from_name(name));
        smaller.filter(|format| tensor.cols.is_multiple_of(format.block())).unwrap_or(format)
    }
}

impl core::fmt::Debug for Mix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mix: &str, role: Role, layer: usize, cols: usize) -> &'static str {
        let tensor = MixedTensor { role, layer, layers: 16, group: 4, tied: false, cols };
        Mix::from_name(mix).unwrap().format(&tensor).name()
    }

    #[test]
    fn q4_k_m_gives_the_tensors_that_suffer_most_six_bits() {
        let more: Vec<usize> =
            (0..16).filter(|layer| of("q4_k_m", Role::FfnDown, *layer, 8192) == "Q6_K").collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(of("Q4_K_M", Role::Value, 2, 2048), "Q4_K");
        assert_eq!(of("Q4_K_M", Role::Output, 0, 2048), "Q6_K");
        assert_eq!(of("Q4_K_M", Role::TokenEmbedding, 0, 2048), "Q4_K");
    }

    #[test]
    fn rows_of_no_whole_super_blocks_take_smaller_ones() {
        assert_eq!(of("Q4_K_M", Role::Query, 0, 576), "Q5_0");
        assert_eq!(of("Q4_K_M", Role::FfnDown, 0, 1536), "Q6_K");
        assert_eq!(of("Q4_K_M", Role::FfnDown, 0, 576), "Q8_0");
    }

    #[test]
    fn every_rule_names_a_format() {
        for mix in MIXES.iter() {
            for role in [Role::Value, Role::AttentionOutput, Role::FfnDown, Role::Output, Role::Query] {
                for layer in 0..16 {
                    assert!(TensorFormat::from_name(of(mix.name, role, layer, 512)).is_some());
                }
            }
        }
        for (from, to) in SMALLER_BLOCKS {
            assert!(TensorFormat::from_name(from).is_some() && TensorFormat::from_name(to).is_some());
        }
    }
}
