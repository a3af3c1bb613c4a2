//! What the CPU backend keeps in the world: weights on shards, a plan on the model, scratch on the wave.
//!
//! The plan is what a step reads: flat arrays of weight handles, rebuilt only when a layer becomes resident or stops
//! being so. Systems of the stages look up one plan a step and no weights by query.

mod adapt;
mod attention;
mod embed;
mod ffn;
mod head;
mod heads;
mod plan;
mod prepare;
mod rope;
mod scratch;
mod steps;

pub use adapt::{AdapterWeights, Adapting, PlannedAdapter, plan_adapters};
pub use attention::attention_cpu;
pub use embed::embed_cpu;
pub use ffn::ffn_cpu;
pub use head::head_cpu;
pub use heads::{HeadPart, Heads, Turn};
pub use plan::{CpuPlan, Weights, plan_cpu, unplan_layer};
pub use prepare::{CpuPrepare, CpuWeights};
pub use rope::RopeTable;
pub use scratch::{AdapterScratch, CpuScratch, ExpertScratch, Route, sized};
pub(crate) use steps::by_rows;
pub use steps::{
    Block, activate_rows, add_rows, cap_rows, gate_rows, layer_norm_rows, load, norm_in_place, norm_rows,
    product, scale_rows,
};

use bevy_ecs::prelude::*;
use weft_components::ModelConfig;
use weft_platform::{Cpu, KvArena, KvError, KvFormat, KvShape};

/// The kernels and threads that CPU systems compute with.
#[derive(Resource, Clone, Copy)]
pub struct CpuBackend(pub Cpu);

/// Keys and values of a model's sessions. A component of the model.
#[derive(Component)]
pub struct CpuKv(pub KvArena);

/// What a model with layers on the CPU carries.
///
/// # Errors
/// The KV cache cannot be allocated.
pub fn place(config: &ModelConfig, slots: u32, format: KvFormat) -> Result<impl Bundle + use<>, KvError> {
    let shape = KvShape {
        layers: config.layers,
        slots: slots as usize,
        kv_heads: config.kv_heads,
        k_dim: config.key_length,
        v_dim: config.value_length,
        format,
    };
    Ok((CpuKv(KvArena::new(shape)?), CpuPlan::new(config)))
}
