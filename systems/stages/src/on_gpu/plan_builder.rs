//! Builds plans, on a thread of their own if the platform has threads, because kernels take time to compile.

use super::adapters::{AdapterBuffers, Listed};
use super::kernel_plan::Plan;
use super::layer_weights::{EndWeights, LayerMap};
use super::scratch::{MOST_LOGIT_ROWS, Scratch, ScratchSize};
use std::sync::Arc;
use weft_components::ModelConfig;
use weft_gpu::{AttentionShape, Gpu, GpuError};
use weft_platform::Signal;

/// A value that is being built, or is ready.
pub(super) enum Pending<T> {
    /// To be built. Several changes between two ticks lead to one build.
    Due,
    #[cfg(not(target_family = "wasm"))]
    Building(crossbeam_channel::Receiver<Result<T, GpuError>>),
    Ready(Box<T>),
    Failed(GpuError),
}

/// A plan.
pub(super) type PendingPlan = Pending<Plan>;

/// Buffers for larger waves, and the plan bound to them.
pub(super) struct Grown {
    pub(super) scratch: Arc<Scratch>,
    pub(super) plan: Plan,
}

/// What a plan is built from besides weights and scratch buffers.
pub(super) struct PlanBuilder {
    pub(super) config: ModelConfig,
    pub(super) attention: AttentionShape,
    /// Notified when a build is done.
    pub(super) wake: Arc<Signal>,
}

impl PlanBuilder {
    /// Starts to build a plan: with `adapters`, for waves whose rows use some of them (their matrices are uploaded);
    /// without, for waves of the plain model.
    pub(super) fn start(
        &self,
        gpu: &Arc<Gpu>,
        layers: &Arc<LayerMap>,
        ends: &Arc<EndWeights>,
        scratch: &Arc<Scratch>,
        adapters: Vec<Listed>,
    ) -> PendingPlan {
        let (gpu, layers, ends) = (Arc::clone(gpu), Arc::clone(layers), Arc::clone(ends));
        let (scratch, config, attention) = (Arc::clone(scratch), self.config.clone(), self.attention);
        start(&self.wake, move || {
            let take =
                || AdapterBuffers::new(&gpu, &adapters, &layers, &ends, [scratch.rows, MOST_LOGIT_ROWS]);
            let adapters = if adapters.is_empty() { None } else { Some(take()?) };
            Plan::build(&gpu, &config, &attention, &scratch, &layers, &ends, adapters)
        })
    }

    /// Starts to make buffers for waves of `size`, and the plan of the plain model bound to them.
    pub(super) fn grow(
        &self,
        gpu: &Arc<Gpu>,
        layers: &Arc<LayerMap>,
        ends: &Arc<EndWeights>,
        scratch: &Arc<Scratch>,
        size: ScratchSize,
    ) -> Pending<Grown> {
        let (gpu, layers, ends) = (Arc::clone(gpu), Arc::clone(layers), Arc::clone(ends));
        let (scratch, config, attention) = (Arc::clone(scratch), self.config.clone(), self.attention);
        start(&self.wake, move || {
            let scratch = Arc::new(scratch.grown(&gpu, size.of(&config))?);
            let plan = Plan::build(&gpu, &config, &attention, &scratch, &layers, &ends, None)?;
            Ok(Grown { scratch, plan })
        })
    }
}

impl<T> Pending<T> {
    /// Takes the value from its thread if it is done. Never waits.
    pub(super) fn poll(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        #[cfg(target_family = "wasm")]
        let _ = gpu;
        #[cfg(not(target_family = "wasm"))]
        if let Self::Building(receiver) = self {
            match receiver.try_recv() {
                Ok(Ok(made)) => *self = Self::Ready(Box::new(made)),
                Ok(Err(error)) => *self = Self::Failed(error),
                Err(crossbeam_channel::TryRecvError::Empty) => {}
                Err(crossbeam_channel::TryRecvError::Disconnected) => {
                    let reason = "the thread that compiles kernels ended".to_owned();
                    *self = Self::Failed(GpuError::Lost { adapter: gpu.info.name.clone(), reason });
                }
            }
        }
        match self {
            Self::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
fn start<T: Send + 'static>(
    wake: &Arc<Signal>,
    build: impl FnOnce() -> Result<T, GpuError> + Send + 'static,
) -> Pending<T> {
    let wake = Arc::clone(wake);
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let work = move || {
        let _ = sender.send(build());
        drop(sender);
        wake.notify();
    };
    match std::thread::Builder::new().name("weft-kernels".into()).spawn(work) {
        Ok(_) => Pending::Building(receiver),
        Err(error) => {
            Pending::Failed(GpuError::Lost { adapter: "host".to_owned(), reason: error.to_string() })
        }
    }
}

#[cfg(target_family = "wasm")]
fn start<T>(_wake: &Arc<Signal>, build: impl FnOnce() -> Result<T, GpuError>) -> Pending<T> {
    match build() {
        Ok(made) => Pending::Ready(Box::new(made)),
        Err(error) => Pending::Failed(error),
    }
}
