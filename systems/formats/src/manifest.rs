//! Lists the shards of a model from its tensor table, in the order in which a forward pass needs them.
//!
//! A shard contains the weights of one role and, for experts, of one expert. It is a whole tensor, or consecutive rows
//! of a tensor that fuses projections or stacks experts.

use super::architecture::{Architecture, TensorPattern};
use super::error::ModelError;
use super::gguf::{Gguf, TensorInfo};
use std::collections::HashSet;
use weft_components::formats::FORMATS;
use weft_components::{Codec, ModelConfig, TensorRole as Role, WeightShard};

/// Largest number of shards that is accepted. The largest models have less than a third of it, and each shard takes
/// about a kilobyte.
const MAX_SHARDS: usize = 1 << 18;

/// The part of a model that a shard belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardOwner {
    /// The model outside its layers.
    Model,
    /// The layer with this index.
    Layer(usize),
}

impl ShardOwner {
    /// Returns the layer's index; `None` for shards outside layers.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Model => None,
            Self::Layer(index) => Some(index),
        }
    }
}

/// A shard that is to be spawned as an entity.
#[derive(Clone, Debug)]
pub struct ShardSpec {
    /// The part of the model that it belongs to.
    pub owner: ShardOwner,
    /// The shard's weights: role, format, shape and byte range.
    pub shard: WeightShard,
}

/// Lists a model's shards: those before the layers, those of each layer, those after the layers.
///
/// # Errors
/// A tensor of the file that the architecture does not use, a required tensor that is missing, or a tensor whose shape
/// or format is not supported.
pub(super) fn manifest(
    gguf: &Gguf,
    arch: &Architecture,
    config: &ModelConfig,
    file: &str,
) -> Result<Vec<ShardSpec>, ModelError> {
    let shards = Vec::with_capacity(gguf.tensors.len());
    let mut manifest = Manifest { gguf, config, file, shards, used: HashSet::new() };
    for (owner, patterns) in groups(arch, config) {
        manifest.group(owner, &patterns)?;
    }
    if let Some(tensor) = gguf.tensors.iter().find(|tensor| !manifest.used.contains(tensor.name.as_str())) {
        return Err(ModelError::UnusedTensor {
            file: file.to_owned(),
            name: tensor.name.clone(),
            architecture: arch.name.to_owned(),
        });
    }
    Ok(manifest.shards)
}

/// Returns the patterns of each owner in order, without the layer tensors that a model of this configuration cannot
/// have.
pub(super) fn groups(
    arch: &Architecture,
    config: &ModelConfig,
) -> impl Iterator<Item = (ShardOwner, Vec<&'static TensorPattern>)> + use<> {
    let layers = config.layers;
    let layer: Vec<_> = arch.layer_patterns().filter(|pattern| applies(pattern, config)).collect();
    let before = core::iter::once((ShardOwner::Model, arch.before.iter().collect()));
    let between = (0..layers).map(move |index| (ShardOwner::Layer(index), layer.clone()));
    before.chain(between).chain(core::iter::once((ShardOwner::Model, arch.after.iter().collect())))
}

/// Returns true if the layers of this configuration can have the tensor. It depends on whether they have experts.
pub(super) fn applies(pattern: &TensorPattern, config: &ModelConfig) -> bool {
    use Role as R;
    pattern.roles.iter().all(|role| match role {
        R::FfnGate | R::FfnUp | R::FfnDown | R::FfnGateBias | R::FfnUpBias | R::FfnDownBias => {
            config.experts.is_none()
        }
        R::Router | R::ExpertGate | R::ExpertUp | R::ExpertDown => config.experts.is_some(),
        R::SharedRouter | R::SharedGate | R::SharedUp | R::SharedDown => {
            config.experts.is_some_and(|experts| experts.shared_feed_forward > 0)
        }
        _ => true,
    })
}

/// Returns a tensor's name. `expert` is used only if each expert has its own tensor.
pub(super) fn name_of(pattern: &TensorPattern, owner: ShardOwner, expert: usize) -> String {
    let name = match owner {
        ShardOwner::Layer(layer) => pattern.name.replace("{}", &layer.to_string()),
        ShardOwner::Model => pattern.name.to_owned(),
    };
    name.replace(EXPERT, &expert.to_string())
}

/// Placeholder of the expert's index in a tensor's name.
const EXPERT: &str = "{e}";

/// Returns the number of tensors that a pattern stands for, and the number of experts stacked in each; 0 if none.
fn experts_of(pattern: &TensorPattern, config: &ModelConfig) -> (usize, usize) {
    let count = config.experts.map_or(0, |experts| experts.count);
    match (pattern.name.contains(EXPERT), pattern.roles.iter().any(|role| role.is_expert())) {
        (true, _) => (count, 0),
        (false, true) => (1, count),
        (false, false) => (1, 0),
    }
}

/// Returns the shape of a pattern's tensors that follows from the configuration, innermost first.
pub(super) fn shape_of(pattern: &TensorPattern, config: &ModelConfig) -> Vec<u64> {
    let (_, stacked) = experts_of(pattern, config);
    let parts = pattern.roles.iter().map(|role| dimensions(*role, config));
    let mut shape = match parts.clone().next() {
        Some((Some(_), cols)) => {
            vec![cols as u64, parts.map(|(rows, _)| rows.unwrap_or(0) as u64).fold(0, u64::saturating_add)]
        }
        _ => vec![parts.map(|(_, cols)| cols as u64).fold(0, u64::saturating_add)],
    };
    shape.extend((stacked > 0).then_some(stacked as u64));
    shape
}

/// Returns the rows and columns of a role's weights that follow from the configuration. Vectors have no rows.
pub(super) fn dimensions(role: Role, config: &ModelConfig) -> (Option<usize>, usize) {
    let queries = config.heads.saturating_mul(config.key_length);
    let keys = config.kv_heads.saturating_mul(config.key_length);
    let values = config.kv_heads.saturating_mul(config.value_length);
    let attended = config.heads.saturating_mul(config.value_length);
    let (width, inner) = (config.embedding, config.feed_forward);
    let experts = config.experts.map_or((0, 0, 0), |e| (e.count, e.feed_forward, e.shared_feed_forward));
    let (count, expert, shared) = experts;
    match role {
        Role::TokenEmbedding | Role::Output => (Some(config.vocabulary), width),
        Role::PositionEmbedding => (Some(config.context), width),
        Role::TokenTypes => (Some(config.token_types), width),
        Role::EmbeddingNorm | Role::EmbeddingNormBias => (None, width),
        Role::RopeFactors | Role::RopeFactorsLong => (None, config.ropes[0].dimensions / 2),
        Role::AttentionNorm | Role::FfnNorm | Role::OutputNorm => (None, width),
        Role::AttentionPostNorm | Role::FfnPostNorm => (None, width),
        Role::AttentionResidualNorm | Role::AttentionResidualNormBias => (None, width),
        Role::FfnResidualNorm | Role::FfnResidualNormBias => (None, width),
        Role::AttentionOutputBias | Role::FfnDownBias => (None, width),
        Role::Query => (Some(queries), width),
        Role::Key => (Some(keys), width),
        Role::Value => (Some(values), width),
        Role::QueryBias => (None, queries),
        Role::KeyBias => (None, keys),
        Role::ValueBias => (None, values),
        Role::QueryNorm | Role::KeyNorm => (None, config.key_length),
        Role::AttentionSubNorm => (None, attended),
        Role::AttentionOutput => (Some(width), attended),
        Role::FfnGate | Role::FfnUp => (Some(inner), width),
        Role::FfnSubNorm | Role::FfnGateBias | Role::FfnUpBias => (None, inner),
        Role::FfnDown => (Some(width), inner),
        Role::QueryScale | Role::KeyScale | Role::ValueScale | Role::AttentionOutputScale => (None, 1),
        Role::FfnGateScale | Role::FfnUpScale | Role::FfnDownScale => (None, 1),
        Role::Router => (Some(count), width),
        Role::ExpertGate | Role::ExpertUp => (Some(expert), width),
        Role::ExpertDown => (Some(width), expert),
        Role::SharedRouter => (Some(1), width),
        Role::SharedGate | Role::SharedUp => (Some(shared), width),
        Role::SharedDown => (Some(width), shared),
    }
}

/// Returns the length of a norm over all heads together, if the role allows that instead of a norm for each head.
fn norm_of_all(role: Role, config: &ModelConfig) -> Option<usize> {
    let heads = match role {
        Role::QueryNorm => config.heads,
        Role::KeyNorm => config.kv_heads,
        _ => return None,
    };
    Some(heads.saturating_mul(config.key_length))
}

/// Removes trailing dimensions of 1, which only some converters write.
fn trimmed(shape: &[u64]) -> &[u64] {
    &shape[..shape.iter().rposition(|n| *n != 1).map_or(1, |last| last + 1).min(shape.len())]
}

/// Builds the list of shards.
struct Manifest<'a> {
    gguf: &'a Gguf,
    config: &'a ModelConfig,
    file: &'a str,
    shards: Vec<ShardSpec>,
    /// Names of the tensors that are used.
    used: HashSet<&'a str>,
}

impl<'a> Manifest<'a> {
    /// Adds the tensors of one owner.
    fn group(&mut self, owner: ShardOwner, patterns: &[&TensorPattern]) -> Result<(), ModelError> {
        let mut given = [false; Role::COUNT];
        for pattern in patterns {
            // An earlier pattern already supplied this role.
            if pattern.roles.iter().any(|role| given[*role as usize]) {
                continue;
            }
            let Some(first) = self.gguf.tensor(&name_of(pattern, owner, 0)) else { continue };
            pattern.roles.iter().for_each(|role| given[*role as usize] = true);
            self.tensor(owner, pattern, first, 0)?;
            for expert in 1..experts_of(pattern, self.config).0 {
                let name = name_of(pattern, owner, expert);
                let tensor = self.gguf.tensor(&name).ok_or_else(|| self.missing(name))?;
                self.tensor(owner, pattern, tensor, expert)?;
            }
        }
        let lacks = |pattern: &&&TensorPattern| {
            !pattern.optional && pattern.roles.iter().any(|role| !given[*role as usize])
        };
        match patterns.iter().find(lacks) {
            Some(pattern) => Err(self.missing(name_of(pattern, owner, 0))),
            None => Ok(()),
        }
    }

    fn missing(&self, name: String) -> ModelError {
        ModelError::MissingTensor { file: self.file.to_owned(), name }
    }

    /// Adds the shards of one tensor: one for each role, of each expert that it stacks.
    fn tensor(
        &mut self,
        owner: ShardOwner,
        pattern: &TensorPattern,
        tensor: &'a TensorInfo,
        expert: usize,
    ) -> Result<(), ModelError> {
        let config = self.config;
        let wanted = shape_of(pattern, config);
        let found = trimmed(&tensor.shape);
        let of_all = pattern.roles.first().and_then(|role| norm_of_all(*role, config)).map(|n| n as u64);
        let norm_of_all = of_all.filter(|all| found == [*all]);
        if found != trimmed(&wanted) && norm_of_all.is_none() {
            return Err(ModelError::BadShape {
                file: self.file.to_owned(),
                name: tensor.name.clone(),
                found: tensor.shape.clone(),
                wanted,
            });
        }
        self.check_format(pattern, tensor)?;
        let (_, stacked) = experts_of(pattern, config);
        let parts: Vec<_> = pattern
            .roles
            .iter()
            .map(|role| match (dimensions(*role, config), norm_of_all) {
                (_, Some(all)) => (*role, 1, all as usize),
                ((rows, cols), None) => (*role, rows.unwrap_or(1), cols),
            })
            .collect();
        // Cannot leave a remainder: the shape is checked and rows are whole blocks.
        let elements = tensor.elements().max(1);
        let bytes = |rows: usize, cols: usize| {
            let part = u128::from(tensor.bytes()) * rows as u128 * cols as u128 / u128::from(elements);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        if self.shards.len().saturating_add(stacked.max(1).saturating_mul(parts.len())) > MAX_SHARDS {
            return Err(ModelError::BadMetadata {
                file: self.file.to_owned(),
                key: format!("{}.expert_count", config.architecture),
                value: stacked.to_string(),
                wanted: "fewer experts over all layers",
            });
        }
        let mut at = tensor.range.start;
        for copy in 0..stacked.max(1) {
            for (role, rows, cols) in &parts {
                let end = at.saturating_add(bytes(*rows, *cols));
                self.shards.push(ShardSpec {
                    owner,
                    shard: WeightShard {
                        name: tensor.name.clone(),
                        role: *role,
                        expert: expert + copy,
                        format: tensor.format,
                        rows: *rows,
                        cols: *cols,
                        part: tensor.source,
                        range: at..end,
                    },
                });
                at = end;
            }
        }
        self.used.insert(&tensor.name);
        Ok(())
    }

    /// Checks the format of a tensor. Vectors are read as floats and must not be quantized.
    fn check_format(&self, pattern: &TensorPattern, tensor: &TensorInfo) -> Result<(), ModelError> {
        let vector = pattern.roles.iter().any(|role| role.is_vector());
        let fits = |codec: &Codec| !vector || !codec.layout.is_quantized();
        if tensor.format.codec().as_ref().is_some_and(fits) {
            return Ok(());
        }
        let known = FORMATS.iter().filter(|format| format.codec.as_ref().is_some_and(fits));
        let known = known.map(|format| format.name);
        Err(ModelError::UnsupportedFormat {
            file: self.file.to_owned(),
            name: tensor.name.clone(),
            format: tensor.format.to_string(),
            known: known.collect::<Vec<_>>().join(", "),
        })
    }
}
