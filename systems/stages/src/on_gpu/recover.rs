//! Recovery from a failed GPU. Its models are placed again on a fresh device of the same adapter or, if there is none
//! or it keeps failing, on the CPU. Sessions lose only their KV cache: their histories pass through the model again.

use super::backend::GpuBackend;
use super::gpu_shard::{GpuShard, GpuShards};
use super::transfer::GpuFailed;
use crate::host::Wake;
use crate::load::place_again;
use bevy_ecs::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use weft_components::{DeviceEvent, DeviceEventKind, Model, Place};
use weft_gpu::{Gpu, GpuError};
use weft_platform::Signal;

/// Failures after which a GPU is abandoned, if none was preceded by enough good steps.
const MAX_FAILURES: u32 = 3;

/// Submits that must be read back before a device counts as working and its failures are forgotten: some seconds of
/// decoding, and many more than a device completes between two failures if some request makes it fail.
const GOOD_STEPS: u32 = 256;

/// A requested device, once it is open. Opening takes from milliseconds to seconds.
type Answer = Arc<Mutex<Option<Result<Gpu, GpuError>>>>;

/// GPUs that are being reopened.
#[derive(Resource, Default)]
pub struct Recovery {
    asked: Vec<(Place, Answer)>,
    /// Failures of each GPU since it last worked for long.
    failures: HashMap<Place, u32>,
}

impl Recovery {
    /// Returns true if a device has been requested and is not open yet.
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// Places the models of failed GPUs again. Runs in the set `Load`. Never waits.
pub fn recover_gpu(
    world: &mut World,
    failed: &mut QueryState<(Entity, &GpuFailed, &GpuShards), With<Model>>,
    held: &mut QueryState<(Entity, &GpuShards), With<Model>>,
) {
    let mut lost: Vec<(Place, Arc<Gpu>, GpuError)> = Vec::new();
    for (_, error, model) in failed.iter(world) {
        for gpu_shard in model.0.iter().filter(|gpu_shard| gpu_shard.gpu.failure().is_some()) {
            if !lost.iter().any(|(place, ..)| *place == gpu_shard.place) {
                lost.push((gpu_shard.place, Arc::clone(&gpu_shard.gpu), error.0.clone()));
            }
        }
    }
    // A plan that cannot be built on a working device would fail on a fresh device too.
    let broken: Vec<(Entity, GpuError)> = failed
        .iter(world)
        .filter(|(.., model)| model.0.iter().all(|gpu_shard| gpu_shard.gpu.failure().is_none()))
        .map(|(entity, error, _)| (entity, error.0.clone()))
        .collect();
    for (model, error) in broken {
        tracing::warn!(%error, "the model moves to the CPU");
        move_model(world, model, false);
    }
    forget_failures(world, held);
    // Answers are read before requests are made: a device is never available in the tick that requests it, so all
    // platforms behave the same.
    let mut answered = Vec::new();
    if let Some(mut recovery) = world.get_resource_mut::<Recovery>() {
        recovery.asked.retain(|(place, answer)| {
            let found = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let waiting = found.is_none();
            answered.extend(found.map(|found| (*place, found)));
            waiting
        });
    }
    let wake = Wake::of(world);
    for (place, gpu, error) in lost {
        let mut recovery = world.get_resource_or_init::<Recovery>();
        let answered = answered.iter().any(|(answered, _)| *answered == place);
        if answered || recovery.asked.iter().any(|(asked, _)| *asked == place) {
            continue;
        }
        let failures = recovery.failures.entry(place).or_default();
        *failures += 1;
        let again = *failures < MAX_FAILURES;
        tracing::warn!(%error, again, "a GPU failed");
        let answer = if again { ask(gpu, &wake) } else { Arc::new(Mutex::new(Some(Err(error)))) };
        recovery.asked.push((place, answer));
    }
    for (place, answer) in answered {
        let on_gpu = match answer {
            Ok(gpu) => {
                if let Some(mut gpus) = world.get_resource_mut::<GpuBackend>()
                    && let Some(at) = gpus.0.iter_mut().find(|at| at.place == place)
                {
                    at.gpu = Arc::new(gpu);
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "its models move to the CPU");
                false
            }
        };
        let models: Vec<Entity> = held
            .iter(world)
            .filter(|(_, model)| model.0.iter().any(|gpu_shard| gpu_shard.place == place))
            .map(|(entity, _)| entity)
            .collect();
        for model in models {
            move_model(world, model, on_gpu);
        }
    }
}

/// Places a model again and lets its sessions start over from their histories.
fn move_model(world: &mut World, model: Entity, on_gpu: bool) {
    world.entity_mut(model).remove::<GpuFailed>();
    // If it fails, the model's load has failed.
    if let Ok(on_gpu) = place_again(world, model, on_gpu) {
        let kind = if on_gpu { DeviceEventKind::Rebuilt } else { DeviceEventKind::OnCpu };
        world.write_message(DeviceEvent { model, kind });
    }
}

/// Forgets the failures of GPUs that have worked for long since.
fn forget_failures(world: &mut World, held: &mut QueryState<(Entity, &GpuShards), With<Model>>) {
    if world.get_resource::<Recovery>().is_none_or(|recovery| recovery.failures.values().all(|n| *n == 0)) {
        return;
    }
    let works = |gpu_shard: &&GpuShard| gpu_shard.good_steps >= GOOD_STEPS && !gpu_shard.failed;
    let working: Vec<Place> = held
        .iter(world)
        .flat_map(|(_, model)| model.0.iter().filter(works))
        .map(|gpu_shard| gpu_shard.place)
        .collect();
    if let Some(mut recovery) = world.get_resource_mut::<Recovery>() {
        for place in working {
            if let Some(failures) = recovery.failures.get_mut(&place) {
                *failures = 0;
            }
        }
    }
}

/// Requests a fresh device on a thread of its own. A driver may take long, and no tick waits for it.
#[cfg(not(target_family = "wasm"))]
fn ask(gpu: Arc<Gpu>, wake: &Arc<Signal>) -> Answer {
    let answer = Answer::default();
    let slot = Arc::clone(&answer);
    let adapter = gpu.info.name.clone();
    let wake = Arc::clone(wake);
    let open = move || {
        let opened = pollster::block_on(gpu.reopen());
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        wake.notify();
    };
    if let Err(error) = std::thread::Builder::new().name("weft-gpu".into()).spawn(open) {
        let lost = GpuError::Lost { adapter, reason: error.to_string() };
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(lost));
    }
    answer
}

/// Requests a fresh device. The browser decides when it is available.
#[cfg(target_family = "wasm")]
fn ask(gpu: Arc<Gpu>, wake: &Arc<Signal>) -> Answer {
    let answer = Answer::default();
    let slot = Arc::clone(&answer);
    let reopen = gpu.reopen();
    let wake = Arc::clone(wake);
    wasm_bindgen_futures::spawn_local(async move {
        let gpu = reopen.await;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(gpu);
        wake.notify();
    });
    answer
}
