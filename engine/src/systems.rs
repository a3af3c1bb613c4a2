//! The pipeline's systems by name, so that your own systems can be ordered against them. [`TickSet`](crate::TickSet)
//! and [`LayerSet`](crate::LayerSet) list the systems of each set.
//!
//! ```
//! use weft::bevy_ecs::prelude::*;
//! use weft::components::Wave;
//! use weft::{Engine, EngineOptions, TickSet};
//!
//! fn count_rows(waves: Query<&Wave>) {
//!     let rows: usize = waves.iter().map(Wave::rows).sum();
//!     println!("{rows} rows are in waves");
//! }
//!
//! # fn main() -> Result<(), weft::Error> {
//! let mut engine = Engine::new(&EngineOptions::default())?;
//! engine.add_systems(TickSet::Admit, count_rows.after(weft::systems::admit));
//! # Ok(())
//! # }
//! ```

pub use crate::answer::publish_answers;
pub use crate::world::finish_tick;
pub use weft_systems::admit::admit;
pub use weft_systems::layers::run_layers;
pub use weft_systems::load::{demand_layers, move_layers, receive_shards};
pub use weft_systems::on_cpu::{
    attention_cpu, embed_cpu, ffn_cpu, head_cpu, plan_adapters, plan_cpu, unplan_layer,
};
pub use weft_systems::on_gpu::{
    attention_gpu, collect_gpu, embed_gpu, ffn_gpu, head_gpu, plan_gpu, plan_gpu_adapters, recover_gpu,
    sample_gpu, shrink_waves, submit_gpu,
};
#[cfg(not(target_family = "wasm"))]
pub use weft_systems::on_gpu::{drop_gpu_logits, plan_gpu_logits};
pub use weft_systems::reclaim::{age_messages, reclaim_waves};
pub use weft_systems::sample::{mask_logits, sample};
pub use weft_systems::speculate::{draft, draft_with_models};
