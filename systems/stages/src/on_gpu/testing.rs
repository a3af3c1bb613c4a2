//! Shared by this folder's tests: a world with a tiny model on a device that computes nothing.

use super::backend::GpuBackend;
use crate::admit::AdmitOptions;
use crate::host::HostCpu;
use crate::load::{SpawnOptions, spawn_model};
use crate::on_cpu::CpuPlace;
use crate::place::{GpuLayers, LoadError};
use crate::sample::SampleBuffers;
use bevy_ecs::prelude::*;
use std::path::Path;
use std::sync::Arc;
use weft_components::{LoadFailure, SessionEvent, TickWork};
use weft_formats::{ModelFile, OpenModel};
use weft_gpu::{Capabilities, Gpu};
use weft_platform::{Cpu, KvFormat};

/// A device that computes nothing.
pub(super) fn noop() -> Gpu {
    Gpu::noop(|caps| Capabilities { storage_buffers: 16, workgroup_memory: 32 << 10, ..caps })
}

/// A world and its model, whose waves may have up to 1,024 rows.
pub(crate) fn world() -> (World, Entity) {
    let mut world = empty(None);
    let model = tiny(&mut world, GpuLayers::Auto).unwrap();
    (world, model)
}

/// As [`world`], with a KV cache of `tokens` tokens.
pub(crate) fn world_of(tokens: usize) -> (World, Entity) {
    let mut world = empty(None);
    let model = tiny_of(&mut world, GpuLayers::Auto, tokens).unwrap();
    (world, model)
}

/// A world without a model. Its GPU has a budget of `memory` bytes.
pub(super) fn empty(memory: Option<u64>) -> World {
    let mut world = World::new();
    world.init_resource::<Messages<SessionEvent>>();
    world.init_resource::<SampleBuffers>();
    world.init_resource::<TickWork>();
    world.insert_resource(AdmitOptions { max_rows: 1024, ..AdmitOptions::default() });
    world.insert_resource(HostCpu(Cpu::serial()));
    CpuPlace::register(&mut world, None);
    world.init_resource::<Messages<LoadFailure>>();
    let mut gpu = noop();
    gpu.options.memory = memory;
    GpuBackend::register(&mut world, Arc::new(gpu));
    world
}

/// Spawns tiny-llama.
pub(super) fn tiny(world: &mut World, gpu_layers: GpuLayers) -> Result<Entity, LoadError> {
    tiny_of(world, gpu_layers, 256)
}

fn tiny_of(world: &mut World, gpu_layers: GpuLayers, tokens: usize) -> Result<Entity, LoadError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/tiny/tiny-llama.gguf");
    let file = ModelFile::read(OpenModel::open(&path).unwrap()).unwrap();
    let options =
        SpawnOptions { kv_tokens: Some(tokens), kv_format: KvFormat::F16, gpu_layers, prefix_cache: None };
    spawn_model(world, file, options)
}
