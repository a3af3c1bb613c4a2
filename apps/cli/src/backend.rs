//! Chooses the backend: the CPU, the GPU, or the GPU if a hardware one exists.

use crate::args::{BackendName, ModelArgs};
use crate::error::CliError;
use crate::pull;
use clap::ValueEnum;
use std::time::Duration;
use weft::{
    Engine, EngineOptions, Error, GpuError, GpuLayers, GpuOptions, LoadOptions, ModelId, ModelSource,
};

/// Environment variable with the backend, read if neither `--backend` nor a GPU option is given.
const VARIABLE: &str = "WEFT_BACKEND";

/// An engine with its model. `why_not_gpu` says why no GPU computes although the choice was automatic.
pub(crate) struct Started {
    pub(crate) engine: Engine,
    pub(crate) model: ModelId,
    pub(crate) why_not_gpu: Option<String>,
}

/// Starts an engine on the backend that the arguments choose, and a load.
///
/// With a backend that the user named, its errors are returned. With an automatic choice, a GPU error leads to the CPU.
pub(crate) fn start(
    args: &ModelArgs,
    engine: &EngineOptions,
    load: &LoadOptions,
    source: impl Fn() -> Result<ModelSource, CliError>,
) -> Result<Started, CliError> {
    let load = LoadOptions { gpu_layers: args.gpu_layers.unwrap_or(GpuLayers::Auto), ..load.clone() };
    let begin = |gpu: Option<GpuOptions>| {
        let mut started = Engine::new(&EngineOptions { gpu, ..engine.clone() })?;
        let model = started.load(source()?, &load)?;
        Ok((started, model))
    };
    let on_cpu =
        |why: Option<String>| begin(None).map(|(engine, model)| Started { engine, model, why_not_gpu: why });
    match choose(args, engine.isa.is_some())? {
        BackendName::Cpu => on_cpu(None),
        BackendName::Gpu => {
            begin(Some(gpu_options(args))).map(|(engine, model)| Started { engine, model, why_not_gpu: None })
        }
        BackendName::Auto => match begin(Some(GpuOptions { hardware: true, ..gpu_options(args) })) {
            Ok((engine, model)) => {
                let none = engine.gpu_shards(model).is_empty();
                let why = none.then(|| "no layer fits the GPU".to_owned());
                Ok(Started { engine, model, why_not_gpu: why })
            }
            Err(error) => match of_gpu(&error) {
                Some(why) => on_cpu(Some(why)),
                None => Err(error),
            },
        },
    }
}

/// Returns the backend that the arguments ask for.
fn choose(args: &ModelArgs, isa: bool) -> Result<BackendName, CliError> {
    let asked = args.asks_for_a_gpu();
    match args.backend {
        Some(BackendName::Cpu) if asked => Err(CliError::usage(
            "--backend cpu uses no GPU; leave it out, or --gpu-layers, --gpu, --gpus and --gpu-memory",
        )),
        Some(named) => Ok(named),
        None if asked => Ok(BackendName::Gpu),
        None if args.gpu_layers.is_some() => Ok(BackendName::Cpu),
        // The option names an instruction set of the CPU.
        None if isa => Ok(BackendName::Cpu),
        None => from_environment(),
    }
}

fn from_environment() -> Result<BackendName, CliError> {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() => BackendName::from_str(&name, true)
            .map_err(|_| CliError::usage(format!("{VARIABLE} is `{name}`; set it to auto, cpu or gpu"))),
        _ => Ok(BackendName::Auto),
    }
}

/// Returns why a GPU could not be used if that caused the error, else `None`.
fn of_gpu(error: &CliError) -> Option<String> {
    let CliError::Engine(error) = error else { return None };
    match error {
        Error::Gpu(GpuError::NoAdapter { .. }) => Some("no GPU was found".to_owned()),
        Error::Gpu(error) => Some(error.to_string()),
        Error::Load(error) => error.place_reason::<GpuError>().map(ToString::to_string),
        _ => None,
    }
}

fn gpu_options(args: &ModelArgs) -> GpuOptions {
    GpuOptions {
        adapter: args.gpu.clone(),
        plain: args.gpu_plain,
        exact: args.gpu_exact,
        devices: args.gpus.unwrap_or(1),
        submit: args.gpu_submit_ms.map(Duration::from_millis),
        memory: args.gpu_memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
        cache: pull::cache_folder().map(|folder| folder.join("kernels")),
        ..GpuOptions::default()
    }
}

/// Describes for the user what computes the model: the GPUs and their layers, or `cpu` with the reason.
pub(crate) fn describe(started: &Started) -> String {
    let parts = started.engine.gpu_shards(started.model);
    if parts.is_empty() {
        let why = started.why_not_gpu.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        return format!("cpu{why}");
    }
    let layers = parts.iter().map(weft::GpuShard::layers).sum::<usize>();
    let all = started.engine.config(started.model).map_or(layers, |config| config.layers);
    let names = parts.iter().map(|part| part.gpu.info.name.as_str()).collect::<Vec<_>>().join(", ");
    format!("gpu: {names}, {layers} of {all} layers")
}
