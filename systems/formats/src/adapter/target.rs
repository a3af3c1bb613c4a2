//! Which of a model's products a pair of a file adds to, and whether it fits there.

use super::AdapterError;
use crate::architecture::{ARCHITECTURES, Architecture};
use crate::manifest::{ShardOwner, ShardSpec, applies, dimensions};
use weft_components::{AdapterSite, LowRank, ModelConfig, TensorRole as Role};

/// Largest rank that is taken.
pub(super) const MOST_RANK: usize = 512;

/// The model that an adapter is for.
#[derive(Clone, Copy)]
pub struct AdapterBase<'a> {
    /// The model's numbers.
    pub config: &'a ModelConfig,
    /// Its tensors.
    pub shards: &'a [ShardSpec],
}

/// Projections that a tensor of a model holds, whose they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Name in the adapter's file.
    pub(super) name: &'a str,
    pub(super) layer: Option<usize>,
    pub(super) roles: &'a [Role],
}

/// What a projection is multiplied by where the model has such a tensor.
fn factor_of(role: Role) -> Option<Role> {
    Some(match role {
        Role::Query => Role::QueryScale,
        Role::Key => Role::KeyScale,
        Role::Value => Role::ValueScale,
        Role::AttentionOutput => Role::AttentionOutputScale,
        Role::FfnGate => Role::FfnGateScale,
        Role::FfnUp => Role::FfnUpScale,
        Role::FfnDown => Role::FfnDownScale,
        _ => return None,
    })
}

impl<'a> AdapterBase<'a> {
    pub(super) fn architecture(&self) -> Option<&'static Architecture> {
        ARCHITECTURES.iter().find(|arch| arch.name == self.config.architecture)
    }

    /// The layer and the roles of a GGUF tensor's name; `None` where a model of this architecture does not have it.
    pub(super) fn gguf_roles(&self, name: &str) -> Option<(Option<usize>, &'static [Role])> {
        let arch = self.architecture()?;
        let Some((number, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            let mut ends = arch.before.iter().chain(arch.after);
            return ends.find(|pattern| pattern.name == name).map(|pattern| (None, pattern.roles));
        };
        let layer = number.parse().ok().filter(|layer| *layer < self.config.layers)?;
        let pattern = arch.layer_patterns().find(|pattern| {
            pattern.name.strip_prefix("blk.{}.") == Some(rest) && applies(pattern, self.config)
        })?;
        Some((Some(layer), pattern.roles))
    }

    fn is_scaled(&self, target: &Target<'_>) -> bool {
        let owner = target.layer.map_or(ShardOwner::Model, ShardOwner::Layer);
        let scaled = |role: &Role| {
            let factor = factor_of(*role);
            self.shards.iter().any(|spec| spec.owner == owner && Some(spec.shard.role) == factor)
        };
        target.roles.iter().any(scaled)
    }

    /// Where a pair is added to: its site, first output, outputs and inputs. Its name, rank and scale are the file's.
    pub(super) fn place(
        &self,
        file: &str,
        target: &Target<'_>,
        rank: usize,
        scale: f32,
    ) -> Result<LowRank, AdapterError> {
        let unsupported = |why| AdapterError::UnsupportedTensor {
            file: file.to_owned(),
            tensor: target.name.to_owned(),
            why,
        };
        let missing = || AdapterError::NoSuchTensor {
            file: file.to_owned(),
            tensor: target.name.to_owned(),
            architecture: self.config.architecture.clone(),
        };
        let first_role = *target.roles.first().ok_or_else(missing)?;
        let Some(site) = AdapterSite::of(first_role) else {
            return Err(unsupported(match first_role {
                Role::TokenEmbedding => "the embedding of tokens, which is looked up and not multiplied",
                Role::Router | Role::SharedRouter => "which chooses experts",
                role if role.is_expert() => "which experts share a tensor of",
                Role::SharedGate | Role::SharedUp | Role::SharedDown => "the expert that every row uses",
                _ => "which is no projection",
            }));
        };
        if self.is_scaled(target) {
            return Err(unsupported("whose outputs the model multiplies by a tensor of its own"));
        }
        let rows = |role: Role| dimensions(role, self.config).0.unwrap_or(0);
        let before = site.roles().iter().take_while(|role| **role != first_role);
        let (first, at) = (before.clone().map(|role| rows(*role)).sum(), before.count());
        // Fused projections lie in the file as they do in the product.
        if site.roles().get(at..at + target.roles.len()) != Some(target.roles) {
            return Err(unsupported("whose parts the model computes apart"));
        }
        Ok(LowRank {
            name: target.name.to_owned(),
            layer: target.layer,
            site,
            first,
            outputs: target.roles.iter().map(|role| rows(*role)).sum(),
            inputs: dimensions(first_role, self.config).1,
            rank,
            scale,
        })
    }
}
