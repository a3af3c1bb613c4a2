//! The CPU as a place. It takes any layer, as long as there is memory.

use super::forward_plan::CpuPlan;
use super::place::{CpuKv, CpuPlace, append_page, write_page};
use super::scratch::CpuScratch;
use super::weight_packing::{CpuPrepare, CpuWeights, is_read_by_host};
use crate::host::HostCpu;
use crate::place::{
    Assignment, Backend, Backends, EndsWanted, Need, PlaceError, PlaceErrorKind, Prepare, Taken,
};
use crate::related;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    EndsHeldBy, HeldBy, Layers, ModelConfig, Place, Shards, TensorRole, Wave, WaveOf, WeightShard,
};
use weft_formats::{ShardOwner, ShardSpec};
use weft_platform::{CpuMatrix, KvError, available_memory};

impl CpuPlace {
    /// Registers the CPU. `memory` is the number of bytes that each model may use; with `None`, the machine's available memory.
    pub fn register(world: &mut World, memory: Option<u64>) -> Place {
        let place = Backends::register(world, |place| CpuBackend { place, memory });
        world.insert_resource(Self(place));
        place
    }
}

/// The backend of the CPU.
struct CpuBackend {
    place: Place,
    memory: Option<u64>,
}

fn refused(error: KvError) -> PlaceError {
    let kind = match error {
        KvError::Memory(_) => PlaceErrorKind::Memory,
        KvError::HeadDim { .. } => PlaceErrorKind::Model,
    };
    PlaceError::new(kind, error)
}

/// Returns true if the CPU reads a shard of a model whose layers `on_cpu` and ends are placed like this.
fn reads(spec: &ShardSpec, tied: bool, on_cpu: impl Fn(usize) -> bool, embed: bool, head: bool) -> bool {
    match spec.owner {
        ShardOwner::Layer(index) => on_cpu(index),
        ShardOwner::Model => reads_of_model(spec.shard.role, tied, embed, head),
    }
}

/// Returns true if the CPU reads a tensor of the model itself whose ends are placed like this.
fn reads_of_model(role: TensorRole, tied: bool, embed: bool, head: bool) -> bool {
    match role {
        TensorRole::TokenEmbedding => embed || (tied && head),
        // Added to the embedding, wherever the head is.
        TensorRole::PositionEmbedding
        | TensorRole::TokenTypes
        | TensorRole::EmbeddingNorm
        | TensorRole::EmbeddingNormBias => embed,
        role => head || is_read_by_host(role),
    }
}

impl Backend for CpuBackend {
    fn name(&self, _world: &World) -> String {
        "CPU".to_owned()
    }

    fn memory(&self, _world: &World) -> Option<u64> {
        self.memory.or_else(available_memory)
    }

    fn read_page(&self, world: &World, model: Entity, class: usize, slot: u32, bytes: &mut Vec<u8>) -> bool {
        let arena = world.get::<CpuKv>(model).and_then(|kv| kv.0.get(class));
        arena.map(|arena| append_page(arena, slot, bytes)).is_some()
    }

    fn write_page(
        &self,
        world: &mut World,
        model: Entity,
        class: usize,
        slot: u32,
        bytes: &mut &[u8],
    ) -> bool {
        let Some(mut kv) = world.get_mut::<CpuKv>(model) else { return false };
        let Some(arena) = kv.0.get_mut(class) else { return false };
        let Some((page, rest)) = bytes.split_at_checked(arena.slot_bytes()) else { return false };
        write_page(arena, slot, page);
        *bytes = rest;
        true
    }

    fn fits(&self, _world: &World, wanted: &Assignment<'_>) -> Result<Need, PlaceError> {
        let (embed, head) = wanted.ends_with(&wanted.layers, (false, false));
        let on_cpu = |index: usize| wanted.layers.contains(&index);
        let mut weights = 0u64;
        for spec in wanted.shards.iter().filter(|spec| reads(spec, wanted.config.tied, on_cpu, embed, head)) {
            let shard = &spec.shard;
            let bytes = if shard.role.is_vector() {
                4 * shard.cols
            } else {
                CpuMatrix::memory(shard.format, shard.rows, shard.cols)
                    .map_err(|error| PlaceError::new(PlaceErrorKind::Model, error))?
            };
            weights = weights.saturating_add(bytes as u64);
        }
        let mut kv = 0u64;
        for (index, (class, slots)) in wanted.config.kv_classes.iter().zip(wanted.slots).enumerate() {
            let here = class.layers.iter().filter(|layer| wanted.layers.contains(*layer)).count();
            kv = kv.saturating_add(wanted.kv_shape(index, here, *slots).bytes().map_err(refused)? as u64);
        }
        // What `WaveLimits` lets a wave take, which it derives from the size of the weights.
        let scratch = weights.min(64 << 20);
        Ok(Need { weights, kv, scratch })
    }

    fn prepare(&self, world: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError> {
        let model = wanted.model;
        let (embed, head) = wanted.ends_with(&wanted.layers, (false, false));
        let taken = Taken { layers: wanted.layers.clone(), limits: wanted.limits };
        let Some(config) = world.get::<ModelConfig>(model) else { return Ok(taken) };
        let needs_plan = embed || head || !wanted.layers.is_empty() || wanted.config.layers == 0;
        if needs_plan && world.get::<CpuPlan>(model).is_none() {
            let mut plan = CpuPlan::new(config);
            let shards = world.get::<Shards>(model).map_or(&[][..], Shards::entities);
            for shard in shards {
                if let (Some(shard), Some(weights)) = (world.get(*shard), world.get::<CpuWeights>(*shard)) {
                    plan.model.take(shard, weights);
                }
            }
            plan.make_ropes(config);
            world.entity_mut(model).insert(plan);
        }
        // An arena's memory is only taken as it is written, so one for all layers costs only what the layers on the CPU
        // use.
        if !wanted.layers.is_empty() && world.get::<CpuKv>(model).is_none() {
            let arenas = wanted.kv_arenas().map_err(refused)?;
            world.entity_mut(model).insert(CpuKv(arenas));
        }
        if matches!(wanted.ends, EndsWanted::Exactly { .. }) {
            drop_ends(world, wanted, embed, head);
        }
        Ok(taken)
    }

    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>> {
        let (config, ends) = (world.get::<ModelConfig>(model)?, world.get::<EndsHeldBy>(model)?.0);
        let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
        let on_cpu = |index: usize| {
            let layer = layers.get(index).and_then(|layer| world.get::<HeldBy>(*layer));
            layer.is_some_and(|held| held.0 == self.place)
        };
        let read = reads(shard, config.tied, on_cpu, ends.embed == self.place, ends.head == self.place);
        let kernels = HostCpu::of(world).kernels;
        read.then(|| Arc::new(CpuPrepare { kernels }) as Arc<dyn Prepare>)
    }

    fn evict(&self, world: &mut World, model: Entity, layer: usize) {
        // The layer has left the plan when it stopped being resident.
        drop_weights(world, model, layer);
    }

    fn release_layer(&self, world: &mut World, model: Entity, layer: usize) {
        self.evict(world, model, layer);
        let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
        let held = |other: Entity| world.get::<HeldBy>(other).is_some_and(|held| held.0 == self.place);
        let others = layers.iter().enumerate().any(|(index, other)| index != layer && held(*other));
        if !others {
            world.entity_mut(model).remove::<CpuKv>();
        }
    }

    fn release(&self, world: &mut World, model: Entity) {
        for owner in related::<Layers>(world, model).into_iter().chain([model]) {
            drop_weights_of(world, owner);
        }
        world.entity_mut(model).remove::<(CpuKv, CpuPlan)>();
    }

    fn enter(&self, world: &mut World, wave: Entity) -> bool {
        let Some(model) = world.get::<WaveOf>(wave).map(|of| of.0) else { return false };
        let Ok([model, mut wave]) = world.get_entity_mut([model, wave]) else { return false };
        let Some(plan) = model.get::<CpuPlan>() else { return false };
        let Ok((mut wave, mut scratch)) = wave.get_components_mut::<(&mut Wave, &mut CpuScratch)>() else {
            return false;
        };
        let Some(ropes) = &plan.ropes else { return false };
        scratch.turn(ropes, &wave.positions);
        wave.place = Some(self.place);
        true
    }

    fn leave(&self, world: &mut World, wave: Entity) -> bool {
        // The hidden state is on the host already.
        if let Some(mut wave) = world.get_mut::<Wave>(wave) {
            wave.place = None;
        }
        true
    }

    fn abandon(&self, world: &mut World, wave: Entity) {
        self.leave(world, wave);
    }
}

/// Removes [`CpuWeights`] from the shards of a layer. For backends whose weights are those of the CPU.
pub fn drop_weights(world: &mut World, model: Entity, layer: usize) {
    let layer = world.get::<Layers>(model).and_then(|layers| layers.entities().get(layer)).copied();
    if let Some(layer) = layer {
        drop_weights_of(world, layer);
    }
}

/// Removes [`CpuWeights`] from the shards of a layer, or from those of a model that no layer owns.
fn drop_weights_of(world: &mut World, owner: Entity) {
    for shard in related::<Shards>(world, owner) {
        world.entity_mut(shard).remove::<CpuWeights>();
    }
}

/// Removes the weights of the ends that are not wanted on the CPU, and those that only they read.
fn drop_ends(world: &mut World, wanted: &Assignment<'_>, embed: bool, head: bool) {
    let read = |shard: &WeightShard| reads_of_model(shard.role, wanted.config.tied, embed, head);
    let unread: Vec<Entity> = related::<Shards>(world, wanted.model)
        .into_iter()
        .filter(|shard| world.get::<WeightShard>(*shard).is_some_and(|shard| !read(shard)))
        .collect();
    for shard in unread {
        world.entity_mut(shard).remove::<CpuWeights>();
        let role = world.get::<WeightShard>(shard).map(|shard| shard.role);
        if let (Some(role), Some(mut plan)) = (role, world.get_mut::<CpuPlan>(wanted.model)) {
            plan.model.drop_role(role);
        }
    }
}

/// Gives each wave of a model scratch memory. An observer.
pub fn add_scratch(added: On<'_, '_, Add<WaveOf>>, mut commands: Commands<'_, '_>) {
    commands.entity(added.entity).insert(CpuScratch::default());
}
