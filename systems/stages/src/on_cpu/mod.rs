//! The CPU backend. It keeps weights on shards, a plan and the KV cache on the model, and scratch memory on the wave.
//!
//! The plan lists what a step reads: flat arrays of weight handles, rebuilt only when a layer becomes resident or is
//! evicted. Systems of the stages look up one plan for each step, and look up no weights by query.

mod adapt;
mod adapter_weights;
mod attention;
mod backend;
mod embed;
mod ffn;
mod forward_plan;
mod head;
mod heads;
mod place;
mod rope;
mod scratch;
mod steps;
mod weight_packing;

pub use adapt::{Adapting, plan_adapters};
pub use adapter_weights::{AdapterWeights, PlannedAdapter};
pub use attention::attention_cpu;
pub use backend::{add_scratch, drop_weights};
pub use embed::embed_cpu;
pub use ffn::ffn_cpu;
pub use forward_plan::{CpuLayer, CpuPlan, Weights, plan_cpu, unplan_layer};
pub use head::head_cpu;
pub use heads::{HeadPart, Heads, Turn};
pub use place::{CpuKv, CpuPlace, append_page, write_page};
pub use rope::RopeTable;
pub use scratch::{AdapterScratch, CpuScratch, ExpertScratch, Route, sized};
pub(crate) use steps::by_rows;
pub use steps::{
    Block, activate_rows, add_rows, cap_rows, gate_rows, layer_norm_rows, load, norm_in_place, norm_rows,
    product, scale_rows,
};
pub use weight_packing::{CpuPrepare, CpuWeight, CpuWeights, is_read_by_host};
