//! Finds the product of the model that a pair adds to, and checks that the pair fits.

use super::AdapterError;
use crate::architecture::{ARCHITECTURES, Architecture};
use crate::manifest::{ShardOwner, ShardSpec, applies, dimensions};
use weft_components::{AdapterSite, LowRank, ModelConfig, TensorRole as Role};

/// Largest rank that is accepted.
pub(super) const MOST_RANK: usize = 512;

/// The model that an adapter is for.
#[derive(Clone, Copy)]
pub struct AdapterBase<'a> {
    /// The model's hyperparameters.
    pub config: &'a ModelConfig,
    /// Its tensors.
    pub shards: &'a [ShardSpec],
}

/// The projections that a tensor of the model contains, and their layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Name in the adapter's file.
    pub(super) name: &'a str,
    pub(super) layer: Option<usize>,
    pub(super) roles: &'a [Role],
}

/// Returns the role of the scale tensor that may multiply a projection's output, as in BitNet.
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

    /// Returns the layer and the roles of the GGUF tensor `name`; `None` if a model of this architecture does not have
    /// it.
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

    /// Returns where a pair is added: its site, first output, outputs and inputs. Name, rank and scale are those of the
    /// file.
    ///
    /// # Errors
    /// [`AdapterError::NoSuchTensor`] or [`AdapterError::UnsupportedTensor`].
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
                Role::TokenEmbedding => "the token embedding, which is looked up and not multiplied",
                Role::Router | Role::SharedRouter => "which is the router of experts",
                role if role.is_expert() => "which is a tensor of stacked experts",
                Role::SharedGate | Role::SharedUp | Role::SharedDown => "which belongs to the shared expert",
                _ => "which is not a projection",
            }));
        };
        if self.is_scaled(target) {
            return Err(unsupported("whose output the model multiplies by a scale tensor"));
        }
        let rows = |role: Role| dimensions(role, self.config).0.unwrap_or(0);
        let before = site.roles().iter().take_while(|role| **role != first_role);
        let (first, at) = (before.clone().map(|role| rows(*role)).sum(), before.count());
        // Fused projections must be in the same order in the file and in the product.
        if site.roles().get(at..at + target.roles.len()) != Some(target.roles) {
            return Err(unsupported("whose projections the model computes separately"));
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
