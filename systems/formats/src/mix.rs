//! Mixes: the format of each tensor in a file. A mix such as Q4_K_M combines formats: the tensors that lose most
//! accuracy are stored with more bits. The rules are those of llama.cpp's quantizer without an importance matrix (in
//! llama-cpp-python 0.3.36).

use weft_components::{TensorFormat, TensorRole as Role};

/// The hyperparameters of a model that rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct MixedModel {
    /// Number of layers.
    pub layers: usize,
    /// Query heads per KV head.
    pub group: usize,
    /// Experts of a layer; 0 if there are none.
    pub experts: usize,
    /// True if the embedding is also the head.
    pub tied: bool,
    /// True for models of 70 billion weights, whose value projections are small compared with the rest.
    pub large: bool,
}

impl MixedModel {
    /// Makes the description from an architecture's name and hyperparameters.
    pub fn new(
        architecture: &str,
        layers: usize,
        heads: usize,
        kv_heads: usize,
        experts: usize,
        tied: bool,
    ) -> Self {
        const LARGE_LAYERS: usize = 80;
        let grouped = architecture == "llama" && heads != kv_heads;
        let large = layers == LARGE_LAYERS && (grouped || architecture == "qwen2");
        Self { layers, group: heads.checked_div(kv_heads).unwrap_or(0), experts, tied, large }
    }
}

/// A matrix whose format is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct MixedTensor {
    /// The model that it belongs to.
    pub model: MixedModel,
    /// Its role. Fused projections count as the value projection.
    pub role: Role,
    /// Its layer; 0 for matrices outside layers.
    pub layer: usize,
    /// Elements of a row.
    pub cols: usize,
    /// True if it stacks the matrices of experts.
    pub stack: bool,
}

impl MixedTensor {
    /// Returns true for the first and the last eighth of the layers, and for every third layer between.
    fn wants_more_bits(&self) -> bool {
        let (layer, layers, eighth) = (self.layer, self.model.layers, self.model.layers / 8);
        layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
    }

    /// Returns true for the first eighth of the layers.
    fn is_early(&self) -> bool {
        self.layer < self.model.layers / 8
    }

    /// Returns true if the model has eight experts, as Mixtral. Attention is then small compared with the rest.
    fn of_eight(&self) -> bool {
        self.model.experts == 8
    }
}

/// Returns the name of a format if the rule applies to a tensor.
type Rule = fn(&MixedTensor) -> Option<&'static str>;

/// The rules of a mix.
struct MixRules {
    name: &'static str,
    /// Value of `general.file_type`: `llama_ftype` of llama.cpp.
    file_type: u32,
    /// Format of matrices without a rule.
    base: &'static str,
    value: Rule,
    attention_output: Rule,
    down: Rule,
    /// A rule that replaces all others.
    only: Option<Rule>,
}

const NONE: Rule = |_| None;
const MORE_Q6_K: Rule = |tensor| tensor.wants_more_bits().then_some("Q6_K");
const EARLY_Q5_K: Rule = |tensor| tensor.is_early().then_some("Q5_K");
const OF_EIGHT_Q5_K: Rule = |tensor| tensor.of_eight().then_some("Q5_K");
const GROUPED_Q5_K: Rule = |tensor| (tensor.model.group >= 4).then_some("Q5_K");

/// Makes a mix without rules.
const fn plain(name: &'static str, file_type: u32, base: &'static str) -> MixRules {
    MixRules { name, file_type, base, value: NONE, attention_output: NONE, down: NONE, only: None }
}

/// Mixes of several formats. Their names are accepted wherever a format's name is.
static MIXES: [MixRules; 10] = [
    MixRules {
        value: |tensor| Some(if tensor.model.group >= 4 { "Q4_K" } else { "Q3_K" }),
        attention_output: |tensor| Some(if tensor.of_eight() { "Q5_K" } else { "Q3_K" }),
        down: |_| Some("Q3_K"),
        ..plain("Q2_K", 10, "Q2_K")
    },
    MixRules {
        value: |tensor| (tensor.model.group >= 4).then_some("Q4_K"),
        down: |tensor| tensor.is_early().then_some("Q4_K"),
        ..plain("Q2_K_S", 21, "Q2_K")
    },
    MixRules { attention_output: OF_EIGHT_Q5_K, ..plain("Q3_K_S", 11, "Q3_K") },
    MixRules {
        value: |tensor| Some(if tensor.layer < 2 { "Q5_K" } else { "Q4_K" }),
        attention_output: |tensor| Some(if tensor.of_eight() { "Q5_K" } else { "Q4_K" }),
        down: |tensor| Some(if tensor.layer < tensor.model.layers / 16 { "Q5_K" } else { "Q4_K" }),
        ..plain("Q3_K_M", 12, "Q3_K")
    },
    MixRules {
        value: |_| Some("Q5_K"),
        attention_output: |tensor| (!tensor.of_eight()).then_some("Q5_K"),
        down: |_| Some("Q5_K"),
        ..plain("Q3_K_L", 13, "Q3_K")
    },
    MixRules {
        value: |tensor| (tensor.layer < 4).then_some("Q5_K"),
        attention_output: OF_EIGHT_Q5_K,
        down: EARLY_Q5_K,
        ..plain("Q4_K_S", 14, "Q4_K")
    },
    MixRules {
        value: MORE_Q6_K,
        attention_output: OF_EIGHT_Q5_K,
        down: MORE_Q6_K,
        ..plain("Q4_K_M", 15, "Q4_K")
    },
    plain("Q5_K_S", 16, "Q5_K"),
    MixRules { value: MORE_Q6_K, down: MORE_Q6_K, ..plain("Q5_K_M", 17, "Q5_K") },
    plain("Q6_K", 18, "Q6_K"),
];

/// Further mixes that the quantizer makes. Elsewhere their names mean one format for all matrices.
static QUANTIZER_MIXES: [MixRules; 13] = [
    plain("F32", 0, "F32"),
    plain("F16", 1, "F16"),
    plain("BF16", 32, "BF16"),
    plain("Q4_0", 2, "Q4_0"),
    plain("Q4_1", 3, "Q4_1"),
    plain("Q5_0", 8, "Q5_0"),
    plain("Q5_1", 9, "Q5_1"),
    plain("Q8_0", 7, "Q8_0"),
    MixRules {
        value: GROUPED_Q5_K,
        attention_output: OF_EIGHT_Q5_K,
        down: EARLY_Q5_K,
        ..plain("IQ4_NL", 25, "IQ4_NL")
    },
    MixRules {
        value: GROUPED_Q5_K,
        attention_output: OF_EIGHT_Q5_K,
        down: EARLY_Q5_K,
        ..plain("IQ4_XS", 30, "IQ4_XS")
    },
    plain("TQ1_0", 36, "TQ1_0"),
    plain("TQ2_0", 37, "TQ2_0"),
    MixRules {
        only: Some(|tensor| Some(if tensor.stack { "MXFP4" } else { "Q8_0" })),
        ..plain("MXFP4_MOE", 38, "MXFP4")
    },
];

/// The mix that the quantizer makes for the name of a format that several mixes are based on.
const USUAL: [(&str, &str); 4] =
    [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M"), ("MXFP4", "MXFP4_MOE")];

/// The replacement for a format if a row is not a whole number of its blocks.
const SMALLER_BLOCKS: [(&str, &str); 15] = [
    ("Q2_K", "Q4_0"),
    ("Q3_K", "Q4_0"),
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

/// The choice of formats for a model's matrices: one format for all, or a mix.
#[derive(Clone, Copy)]
pub struct Mix {
    base: TensorFormat,
    rules: Option<&'static MixRules>,
}

impl Mix {
    /// Returns the mix or the format called `name`, in upper or lower case. A name that is both, such as `Q2_K`, is the
    /// mix.
    pub fn from_name(name: &str) -> Option<Self> {
        let rules = MIXES.iter().find(|mix| mix.name.eq_ignore_ascii_case(name));
        let base = TensorFormat::from_name(rules.map_or(name, |rules| rules.base))?;
        Some(Self { base, rules })
    }

    /// Returns the mix that llama.cpp's quantizer makes under `name`, in upper or lower case. Even for the name of a
    /// format some matrices may get another format.
    pub fn quantizer(name: &str) -> Option<Self> {
        let usual = USUAL.iter().find(|(format, _)| format.eq_ignore_ascii_case(name));
        let name = usual.map_or(name, |(_, mix)| mix);
        let rules = Self::quantizer_rules().find(|mix| mix.name.eq_ignore_ascii_case(name))?;
        Some(Self { base: TensorFormat::from_name(rules.base)?, rules: Some(rules) })
    }

    /// Uses one format for all matrices.
    pub fn uniform(format: TensorFormat) -> Self {
        Self { base: format, rules: None }
    }

    fn quantizer_rules() -> impl Iterator<Item = &'static MixRules> {
        QUANTIZER_MIXES.iter().chain(&MIXES)
    }

    /// Returns the names of the mixes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MIXES.iter().map(|mix| mix.name)
    }

    /// Returns the names that [`Mix::quantizer`] accepts.
    pub fn quantizer_names() -> impl Iterator<Item = &'static str> {
        Self::quantizer_rules().map(|mix| mix.name)
    }

    /// Returns its name.
    pub fn name(&self) -> &'static str {
        self.rules.map_or(self.base.name(), |rules| rules.name)
    }

    /// Returns the value of `general.file_type` for such files; `None` if none is defined.
    pub fn file_type(&self) -> Option<u32> {
        let rules = self.rules.or_else(|| Self::quantizer_rules().find(|mix| mix.name == self.base.name()));
        rules.map(|rules| rules.file_type)
    }

    /// Returns the format of matrices without a rule.
    pub fn base(&self) -> TensorFormat {
        self.base
    }

    /// Returns the format of a matrix by the rules. If its rows are not whole blocks, a format with smaller blocks is
    /// used.
    pub fn format(&self, tensor: &MixedTensor) -> TensorFormat {
        let is_float = self.base.block() == 1;
        let rules = self.rules.filter(|_| !is_float);
        let wanted = rules.and_then(|rules| match rules.only {
            Some(rule) => rule(tensor),
            None => self.by_role(rules, tensor),
        });
        let format = wanted.and_then(TensorFormat::from_name).unwrap_or(self.base);
        if tensor.cols.is_multiple_of(format.block()) {
            return format;
        }
        let smaller = SMALLER_BLOCKS.iter().find(|(name, _)| *name == format.name());
        let smaller = smaller.and_then(|(_, name)| TensorFormat::from_name(name));
        smaller.filter(|format| tensor.cols.is_multiple_of(format.block())).unwrap_or(format)
    }

    /// Applies the rule of a matrix's role.
    fn by_role(&self, rules: &MixRules, tensor: &MixedTensor) -> Option<&'static str> {
        let base = self.base.name();
        match tensor.role {
            Role::Output => self.head(tensor),
            Role::TokenEmbedding if tensor.model.tied => self.head(tensor),
            Role::TokenEmbedding => ["TQ1_0", "TQ2_0"].contains(&base).then_some("Q4_K"),
            Role::Value | Role::Key if tensor.of_eight() => Some("Q8_0"),
            Role::Value => {
                let wanted = (rules.value)(tensor).unwrap_or(base);
                let more = tensor.model.large && ["Q3_K", "Q4_K"].contains(&wanted);
                Some(if more { "Q5_K" } else { wanted })
            }
            Role::AttentionOutput => (rules.attention_output)(tensor),
            Role::FfnDown | Role::ExpertDown | Role::SharedDown => (rules.down)(tensor),
            _ => None,
        }
    }

    /// Returns the format of the head, or of an embedding that is also the head.
    fn head(&self, tensor: &MixedTensor) -> Option<&'static str> {
        match self.base.name() {
            _ if !tensor.cols.is_multiple_of(self.base.block()) => Some("Q8_0"),
            "Q8_0" => None,
            _ => Some("Q6_K"),
        }
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
        let model = MixedModel::new("llama", 16, 32, 8, 0, false);
        let tensor = MixedTensor { model, role, layer, cols, stack: false };
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
