//! Shared by this folder's tests: a world with a tiny model on a device that computes nothing.

use super::backend::GpuBackend;
use crate::admit::AdmitOptions;
use crate::host::HostCpu;
use crate::load::{SpawnOptions, spawn_model};
use crate::on_cpu::CpuPlace;
use crate::place::GpuLayers;
use crate::sample::SampleBuffers;
use bevy_ecs::prelude::*;
use std::path::Path;
use std::sync::Arc;
use weft_components::{SessionEvent, TickWork};
use weft_formats::{ModelFile, OpenModel};
use weft_gpu::{Capabilities, Gpu};
use weft_platform::{Cpu, KvFormat};

/// A device that computes nothing.
pub(super) fn noop() -> Gpu {
    Gpu::noop(|caps| Capabilities { storage_buffers: 16, workgroup_memory: 32 << 10, ..caps })
}

/// A world and its model, whose waves may have up to 1,024 rows.
pub(super) fn world() -> (World, Entity) {
    let mut world = World::new();
    world.init_resource::<Messages<SessionEvent>>();
    world.init_resource::<SampleBuffers>();
    world.init_resource::<TickWork>();
    world.insert_resource(AdmitOptions { max_rows: 1024 });
    world.insert_resource(HostCpu(Cpu::serial()));
    CpuPlace::register(&mut world, None);
    GpuBackend::register(&mut world, Arc::new(noop()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/tiny/tiny-llama.gguf");
    let file = ModelFile::read(OpenModel::open(&path).unwrap()).unwrap();
    let options =
        SpawnOptions { kv_tokens: Some(256), kv_format: KvFormat::F16, gpu_layers: GpuLayers::Auto };
    let model = spawn_model(&mut world, file, options).unwrap();
    (world, model)
}
